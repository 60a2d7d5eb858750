-- What the cache has yet to be told. A row is written with the change that it is about, in the same
-- statement, and deleted when Redis has been told.
CREATE TABLE invalidations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tag text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);
