CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

INSERT INTO "alembic_version" VALUES('0001');

CREATE TABLE journal_events (
	position INTEGER NOT NULL,
	stream VARCHAR(200) NOT NULL,
	sequence INTEGER NOT NULL,
	id VARCHAR(64) NOT NULL,
	type VARCHAR(100) NOT NULL,
	schema_version INTEGER NOT NULL,
	time VARCHAR(27) NOT NULL,
	actor TEXT NOT NULL,
	correlation_id TEXT NOT NULL,
	causation_id TEXT NOT NULL,
	tags TEXT NOT NULL,
	payload TEXT NOT NULL,
	previous_hash VARCHAR(64) NOT NULL,
	hash VARCHAR(64) NOT NULL,
	PRIMARY KEY (position),
	CONSTRAINT uq_journal_events_stream_sequence UNIQUE (stream, sequence),
	CONSTRAINT uq_journal_events_id UNIQUE (id)
);

CREATE TABLE journal_order (
	id INTEGER NOT NULL,
	position INTEGER NOT NULL,
	PRIMARY KEY (id)
);

INSERT INTO "journal_order" VALUES(1,0);

CREATE TABLE journal_snapshots (
	stream VARCHAR(200) NOT NULL,
	sequence INTEGER NOT NULL,
	state TEXT NOT NULL,
	CONSTRAINT pk_journal_snapshots PRIMARY KEY (stream, sequence)
);

CREATE TABLE journal_streams (
	stream VARCHAR(200) NOT NULL,
	sequence INTEGER NOT NULL,
	hash VARCHAR(64) NOT NULL,
	PRIMARY KEY (stream)
);

CREATE TABLE journal_tags (
	tag VARCHAR(200) NOT NULL,
	position INTEGER NOT NULL,
	CONSTRAINT pk_journal_tags PRIMARY KEY (tag, position)
)
 WITHOUT ROWID
;

CREATE INDEX ix_journal_events_stream_position ON journal_events (stream, position);

CREATE INDEX ix_journal_events_type ON journal_events (type, position);

CREATE INDEX ix_journal_events_actor ON journal_events (actor, position);

CREATE INDEX ix_journal_events_time ON journal_events (time, position);

CREATE TRIGGER journal_events_no_update BEFORE UPDATE ON journal_events BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

CREATE TRIGGER journal_events_no_delete BEFORE DELETE ON journal_events BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

CREATE TRIGGER journal_tags_no_update BEFORE UPDATE ON journal_tags BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

CREATE TRIGGER journal_tags_no_delete BEFORE DELETE ON journal_tags BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

CREATE TRIGGER journal_events_no_replace BEFORE INSERT ON journal_events WHEN EXISTS (SELECT 1 FROM journal_events WHERE position = NEW.position OR id = NEW.id OR (stream = NEW.stream AND sequence = NEW.sequence)) BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
