-- Only adds: the release that is still serving does not know the column and need not.
ALTER TABLE orders ADD COLUMN IF NOT EXISTS note text;
