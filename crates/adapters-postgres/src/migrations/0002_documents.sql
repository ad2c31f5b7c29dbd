-- Definitions and what else all replicas share, changed by compare-and-set.
CREATE TABLE {schema}.documents (
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- Of the sequence below.
    version bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (kind, name)
);

-- Counts the changes of all documents, and never back. No number is taken beforehand, so that a later change
-- has a greater one.
CREATE SEQUENCE {schema}.document_versions CACHE 1;
