INSERT INTO items (id, name, price_cents) VALUES
    (1, 'Teapot', 2400),
    (2, 'Cup', 650),
    (3, 'Saucer', 480),
    (4, 'Kettle', 5900)
ON CONFLICT DO NOTHING;
