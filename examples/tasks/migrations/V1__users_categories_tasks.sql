CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- An address is one address however it is written.
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

CREATE TABLE categories (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT categories_name_key UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Types of their own: they sort in this order, which no alphabet knows.
CREATE TYPE task_status AS ENUM ('pending', 'in_progress', 'completed');
CREATE TYPE task_priority AS ENUM ('low', 'medium', 'high');

CREATE TABLE tasks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL,
    description text,
    status task_status NOT NULL DEFAULT 'pending',
    priority task_priority NOT NULL DEFAULT 'medium',
    due_date date,
    -- What tasks refer to cannot be deleted: the answer is a 409, and nothing is lost.
    user_id bigint CONSTRAINT tasks_user_id_fkey REFERENCES users ON DELETE RESTRICT,
    category_id bigint CONSTRAINT tasks_category_id_fkey REFERENCES categories ON DELETE RESTRICT,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- For the filters, each with the order that a page has by default; and for the foreign keys.
CREATE INDEX tasks_status ON tasks (status, id);
CREATE INDEX tasks_user ON tasks (user_id, id);
CREATE INDEX tasks_category ON tasks (category_id, id);
-- For the orders that a page may be asked for.
CREATE INDEX tasks_by_title ON tasks (title, id);
CREATE INDEX tasks_by_priority ON tasks (priority, id);
CREATE INDEX tasks_by_due_date ON tasks (due_date, id);
CREATE INDEX tasks_by_created_at ON tasks (created_at, id);
CREATE INDEX tasks_by_updated_at ON tasks (updated_at, id);

-- For the search. A Postgres that has no trigrams reads the whole table instead.
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX tasks_text ON tasks USING gin ((title || E'\n' || coalesce(description, '')) gin_trgm_ops);
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'tasks can be searched without an index only: %', SQLERRM;
END
$$;
