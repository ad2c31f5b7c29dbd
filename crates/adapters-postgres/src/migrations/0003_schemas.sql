-- Schemas, the versions of subjects, and settings. Every change moves the one revision from what it expects.
CREATE TABLE {schema}.schema_revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);
INSERT INTO {schema}.schema_revision (revision) VALUES (0);

-- The last id that was given in each context.
CREATE TABLE {schema}.schema_ids (
    context text COLLATE "C" PRIMARY KEY,
    last integer NOT NULL
);

CREATE TABLE {schema}.schemas (
    context text COLLATE "C" NOT NULL,
    id integer NOT NULL,
    fingerprint bytea NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (context, id)
);
CREATE INDEX schemas_by_fingerprint ON {schema}.schemas (fingerprint);

CREATE TABLE {schema}.schema_references (
    context text COLLATE "C" NOT NULL,
    id integer NOT NULL,
    subject text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (context, id, subject, version)
);
CREATE INDEX schema_references_by_subject ON {schema}.schema_references (subject);

CREATE TABLE {schema}.schema_versions (
    subject text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    context text COLLATE "C" NOT NULL,
    id integer NOT NULL,
    deleted boolean NOT NULL,
    tag smallint NOT NULL,
    PRIMARY KEY (subject, version)
);
CREATE INDEX schema_versions_by_schema ON {schema}.schema_versions (context, id);

CREATE TABLE {schema}.schema_settings (
    kind text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (kind, scope)
);
