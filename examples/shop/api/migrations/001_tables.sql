CREATE TABLE items (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    price_cents integer NOT NULL CHECK (price_cents >= 0)
);

CREATE TABLE orders (
    id bigserial PRIMARY KEY,
    request_id text NOT NULL UNIQUE,
    item_id integer NOT NULL REFERENCES items (id),
    quantity integer NOT NULL CHECK (quantity > 0),
    release text NOT NULL,
    received integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);
