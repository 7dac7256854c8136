PRAGMA application_id = 1853056364;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE addresses (
        network TEXT NOT NULL,
        service TEXT NOT NULL,
        replica INTEGER NOT NULL,
        host INTEGER NOT NULL,
        PRIMARY KEY (network, service, replica),
        UNIQUE (network, host)
    ) WITHOUT ROWID;
INSERT INTO "addresses" VALUES('default','api',1,12);
INSERT INTO "addresses" VALUES('default','web',1,10);
INSERT INTO "addresses" VALUES('default','web',2,11);
CREATE TABLE audit_events (
        number INTEGER NOT NULL PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        hash TEXT NOT NULL,
        document TEXT NOT NULL
    );
CREATE TABLE breakers (
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (environment, service)
    ) WITHOUT ROWID;
CREATE TABLE deploy_keys (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        record TEXT NOT NULL
    );
CREATE TABLE journal_entries (
        run_id TEXT NOT NULL REFERENCES runs (run_id),
        seq INTEGER NOT NULL,
        at TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('intent', 'outcome', 'note')),
        step TEXT NOT NULL,
        effect TEXT NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (run_id, seq)
    ) WITHOUT ROWID;
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',1,'2026-11-26T20:00:00.000Z','intent','networks','{"do":"prepare-networks","release":"r2"}','{"do":"prepare-networks","release":"r2"}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',2,'2026-11-26T20:00:00.000Z','outcome','networks','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',3,'2026-11-26T20:00:00.000Z','intent','router','{"do":"install-router","release":"r2","slot":"blue","initial":{"base":"plain","candidate":null,"percent":0,"shielded":false}}','{"do":"install-router","release":"r2","slot":"blue","initial":{"base":"plain","candidate":null,"percent":0,"shielded":false}}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',4,'2026-11-26T20:00:00.000Z','outcome','router','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',5,'2026-11-26T20:00:00.000Z','intent','job:migrate','{"do":"run-job","release":"r2","slot":"blue","service":"migrate","timeout_s":600.0}','{"do":"run-job","release":"r2","slot":"blue","service":"migrate","timeout_s":600.0}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',6,'2026-11-26T20:00:00.000Z','outcome','job:migrate','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',7,'2026-11-26T20:00:00.000Z','intent','start','{"do":"start-slot","release":"r2","slot":"blue","timeout_s":30.0}','{"do":"start-slot","release":"r2","slot":"blue","timeout_s":30.0}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',8,'2026-11-26T20:00:00.000Z','outcome','start','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',9,'2026-11-26T20:00:00.000Z','intent','health','{"do":"prove-health","release":"r2","slot":"blue","timeout_s":30.0,"min_uptime_s":7.0}','{"do":"prove-health","release":"r2","slot":"blue","timeout_s":30.0,"min_uptime_s":7.0}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',10,'2026-11-26T20:00:00.000Z','outcome','health','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',11,'2026-11-26T20:00:00.000Z','intent','move','{"do":"move-traffic","split":{"base":"blue","candidate":null,"percent":0,"shielded":false}}','{"do":"move-traffic","split":{"base":"blue","candidate":null,"percent":0,"shielded":false}}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',12,'2026-11-26T20:00:00.000Z','outcome','move','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',13,'2026-11-26T20:00:00.000Z','intent','watch','{"do":"watch-live","release":"r2","slot":"blue","seconds":2.0}','{"do":"watch-live","release":"r2","slot":"blue","seconds":2.0}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',14,'2026-11-26T20:00:00.000Z','outcome','watch','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',15,'2026-11-26T20:00:00.000Z','intent','handover','{"do":"hand-over","stop":"plain","start":"blue","stop_release":"r1","start_release":"r2"}','{"do":"hand-over","stop":"plain","start":"blue","stop_release":"r1","start_release":"r2"}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',16,'2026-11-26T20:00:00.000Z','outcome','handover','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',17,'2026-11-26T20:00:00.000Z','intent','undo:handover','{"do":"hand-over","stop":"blue","start":"plain","stop_release":"r2","start_release":"r1"}','{"do":"hand-over","stop":"blue","start":"plain","stop_release":"r2","start_release":"r1"}');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',18,'2026-11-26T20:00:00.000Z','outcome','undo:handover','','as it should be');
INSERT INTO "journal_entries" VALUES('20261126T200000-adoption',19,'2026-11-26T20:00:00.000Z','intent','undo:move','{"do":"move-traffic","split":{"base":"plain","candidate":null,"percent":0,"shielded":false}}','{"do":"move-traffic","split":{"base":"plain","candidate":null,"percent":0,"shielded":false}}');
CREATE TABLE key_attempts (
        source TEXT NOT NULL PRIMARY KEY,
        at TEXT NOT NULL,
        proved INTEGER NOT NULL,
        record TEXT NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE releases (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        fingerprint TEXT NOT NULL,
        created_at TEXT NOT NULL,
        record TEXT NOT NULL
    );
INSERT INTO "releases" VALUES(1,'r0','r0','2026-11-22T00:00:00Z','{"id":"r0","fingerprint":"r0","created_at":"2026-11-22T00:00:00Z","services":{"web":{"name":"web","role":"app","reason":"for a test","config":{},"image":"web:1","builds":false,"replicas":2,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"api":{"name":"api","role":"app","reason":"for a test","config":{},"image":"api:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"migrate":{"name":"migrate","role":"job","reason":"for a test","config":{},"image":"migrate:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"worker":{"name":"worker","role":"app","reason":"for a test","config":{},"image":"worker:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"on-live","probe":null,"health_timeout_s":null,"pull_policy":""}},"images":{"web":{"id":"sha256:web","ref":"web:1","digest":"","built":false},"api":{"id":"sha256:api","ref":"api:1","digest":"","built":false},"migrate":{"id":"sha256:migrate","ref":"migrate:1","digest":"","built":false},"worker":{"id":"sha256:worker","ref":"worker:1","digest":"","built":false}},"networks":{"default":{"name":"shop_default"}},"volumes":{},"secrets":{},"configs":{},"routes":[{"key":"web_8000","service":"web","port":8000,"protocol":"http","keepalive":0,"source":""}],"git_commit":"","git_dirty":false,"created_by":""}');
INSERT INTO "releases" VALUES(2,'r1','r1','2026-11-22T00:00:00Z','{"id":"r1","fingerprint":"r1","created_at":"2026-11-22T00:00:00Z","services":{"web":{"name":"web","role":"app","reason":"for a test","config":{},"image":"web:1","builds":false,"replicas":2,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"api":{"name":"api","role":"app","reason":"for a test","config":{},"image":"api:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"migrate":{"name":"migrate","role":"job","reason":"for a test","config":{},"image":"migrate:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"worker":{"name":"worker","role":"app","reason":"for a test","config":{},"image":"worker:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"on-live","probe":null,"health_timeout_s":null,"pull_policy":""}},"images":{"web":{"id":"sha256:web","ref":"web:1","digest":"","built":false},"api":{"id":"sha256:api","ref":"api:1","digest":"","built":false},"migrate":{"id":"sha256:migrate","ref":"migrate:1","digest":"","built":false},"worker":{"id":"sha256:worker","ref":"worker:1","digest":"","built":false}},"networks":{"default":{"name":"shop_default"}},"volumes":{},"secrets":{},"configs":{},"routes":[{"key":"web_8000","service":"web","port":8000,"protocol":"http","keepalive":0,"source":""}],"git_commit":"","git_dirty":false,"created_by":""}');
INSERT INTO "releases" VALUES(3,'r2','r2','2026-11-22T00:00:00Z','{"id":"r2","fingerprint":"r2","created_at":"2026-11-22T00:00:00Z","services":{"web":{"name":"web","role":"app","reason":"for a test","config":{},"image":"web:1","builds":false,"replicas":2,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"api":{"name":"api","role":"app","reason":"for a test","config":{},"image":"api:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"migrate":{"name":"migrate","role":"job","reason":"for a test","config":{},"image":"migrate:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"with-slot","probe":null,"health_timeout_s":null,"pull_policy":""},"worker":{"name":"worker","role":"app","reason":"for a test","config":{},"image":"worker:1","builds":false,"replicas":1,"networks":["default"],"depends_on":[],"has_healthcheck":false,"stop_grace_s":10.0,"activate":"on-live","probe":null,"health_timeout_s":null,"pull_policy":""}},"images":{"web":{"id":"sha256:web","ref":"web:1","digest":"","built":false},"api":{"id":"sha256:api","ref":"api:1","digest":"","built":false},"migrate":{"id":"sha256:migrate","ref":"migrate:1","digest":"","built":false},"worker":{"id":"sha256:worker","ref":"worker:1","digest":"","built":false}},"networks":{"default":{"name":"shop_default"}},"volumes":{},"secrets":{},"configs":{},"routes":[{"key":"web_8000","service":"web","port":8000,"protocol":"http","keepalive":0,"source":""}],"git_commit":"","git_dirty":false,"created_by":""}');
CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        started_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'undone', 'parked')),
        document TEXT NOT NULL
    );
INSERT INTO "runs" VALUES(1,'20261126T200000-adoption','deploy','2026-11-26T20:00:00.000Z','2026-11-26T20:00:00.000Z','running','{"id":"20261126T200000-adoption","plan":{"kind":"deploy","strategy":"blue-green","target":"local","project":"shop","release":"r2","previous_release":"r1","live":"plain","candidate":"blue","steps":[{"key":"networks","name":"Prepare networks","effect":{"do":"prepare-networks","release":"r2"},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"router","name":"Configure router","effect":{"do":"install-router","release":"r2","slot":"blue","initial":{"base":"plain","candidate":null,"percent":0,"shielded":false}},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"job:migrate","name":"Run job migrate","effect":{"do":"run-job","release":"r2","slot":"blue","service":"migrate","timeout_s":600.0},"undo":[{"key":"undo:job","name":"Remove blue","effect":{"do":"remove-slot","slot":"blue"},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false}],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"start","name":"Start blue","effect":{"do":"start-slot","release":"r2","slot":"blue","timeout_s":30.0},"undo":[{"key":"undo:start","name":"Remove blue","effect":{"do":"remove-slot","slot":"blue"},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false}],"commits":false,"moves_traffic":false,"again":true,"once":false,"stays":false},{"key":"health","name":"Health check blue","effect":{"do":"prove-health","release":"r2","slot":"blue","timeout_s":30.0,"min_uptime_s":7.0},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"move","name":"Move traffic to blue","effect":{"do":"move-traffic","split":{"base":"blue","candidate":null,"percent":0,"shielded":false}},"undo":[{"key":"undo:move","name":"Move traffic back to plain","effect":{"do":"move-traffic","split":{"base":"plain","candidate":null,"percent":0,"shielded":false}},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"undo:drain","name":"Drain blue","effect":{"do":"drain","slot":"blue","grace_s":60.0,"keep":false},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false}],"commits":false,"moves_traffic":true,"again":false,"once":false,"stays":false},{"key":"watch","name":"Health check blue with the traffic on","effect":{"do":"watch-live","release":"r2","slot":"blue","seconds":2.0},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"handover","name":"Hand single services over to blue","effect":{"do":"hand-over","stop":"plain","start":"blue","stop_release":"r1","start_release":"r2"},"undo":[{"key":"undo:handover","name":"Give single services back to plain","effect":{"do":"hand-over","stop":"blue","start":"plain","stop_release":"r2","start_release":"r1"},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false}],"commits":true,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"drain","name":"Drain plain","effect":{"do":"drain","slot":"plain","grace_s":60.0,"keep":false},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"retire","name":"Remove the plain stack''s app containers","effect":{"do":"retire-plain","services":["api","web","worker"]},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"record","name":"Persist state","effect":{"do":"record","live":"blue","live_release":"r2","standby":null,"standby_release":"","standby_s":0.0},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false}],"closing":[{"key":"undo:record","name":"Persist state","effect":{"do":"record","live":"plain","live_release":"r1","standby":null,"standby_release":"","standby_s":0.0},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false}],"park":null,"keep_failed":false,"analysis":null,"metrics":[],"changes":[{"sign":"=","what":"cache (shared)","reason":"never touched by blue-green"},{"sign":"=","what":"db (shared)","reason":"never touched by blue-green"},{"sign":"+","what":"blue/migrate","reason":"job, once, before traffic"},{"sign":"+","what":"blue/api","reason":"api:1"},{"sign":"+","what":"blue/web x2","reason":"web:1"},{"sign":"+","what":"blue/worker (when live)","reason":"worker:1"},{"sign":"~","what":"split","reason":"all requests from plain to blue"},{"sign":"-","what":"plain containers of api, web, worker","reason":"replaced by the slot"}],"warnings":[],"traffic":null,"cause":{"service":"","reason":"","key":""}},"started_at":"2026-11-26T20:00:00.000Z","phase":"undo","steps":[{"key":"networks","name":"Prepare networks","status":"done","seconds":0.25,"detail":"as it should be"},{"key":"router","name":"Configure router","status":"done","seconds":0.25,"detail":"as it should be"},{"key":"job:migrate","name":"Run job migrate","status":"done","seconds":0.25,"detail":"as it should be"},{"key":"start","name":"Start blue","status":"done","seconds":0.25,"detail":"as it should be"},{"key":"health","name":"Health check blue","status":"done","seconds":0.25,"detail":"as it should be"},{"key":"move","name":"Move traffic to blue","status":"done","seconds":0.25,"detail":"as it should be"},{"key":"watch","name":"Health check blue with the traffic on","status":"done","seconds":0.25,"detail":"as it should be"},{"key":"handover","name":"Hand single services over to blue","status":"unhealthy","seconds":1.5,"detail":"web in green is not healthy any more."},{"key":"drain","name":"Drain plain","status":"skipped","seconds":0.0,"detail":""},{"key":"retire","name":"Remove the plain stack''s app containers","status":"skipped","seconds":0.0,"detail":""},{"key":"record","name":"Persist state","status":"skipped","seconds":0.0,"detail":""},{"key":"undo:handover","name":"Give single services back to plain","status":"done","seconds":0.25,"detail":"as it should be"},{"key":"undo:move","name":"Move traffic back to plain","status":"running","seconds":0.0,"detail":""},{"key":"undo:drain","name":"Drain blue","status":"pending","seconds":0.0,"detail":""},{"key":"undo:start","name":"Remove blue","status":"pending","seconds":0.0,"detail":""},{"key":"undo:record","name":"Persist state","status":"pending","seconds":0.0,"detail":""}],"undo":[{"key":"undo:handover","name":"Give single services back to plain","effect":{"do":"hand-over","stop":"blue","start":"plain","stop_release":"r2","start_release":"r1"},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"undo:move","name":"Move traffic back to plain","effect":{"do":"move-traffic","split":{"base":"plain","candidate":null,"percent":0,"shielded":false}},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"undo:drain","name":"Drain blue","effect":{"do":"drain","slot":"blue","grace_s":60.0,"keep":false},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"undo:start","name":"Remove blue","effect":{"do":"remove-slot","slot":"blue"},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false},{"key":"undo:record","name":"Persist state","effect":{"do":"record","live":"plain","live_release":"r1","standby":null,"standby_release":"","standby_s":0.0},"undo":[],"commits":false,"moves_traffic":false,"again":false,"once":false,"stays":false}],"position":1,"committed":false,"outcome":"failed","failure":{"message":"web in green is not healthy any more.","remedy":"Mend it.","evidence":["web | out of memory"],"exit_status":5,"unhealthy":true},"completed_at":"","parking":null}');
CREATE TABLE slots (
        slot TEXT NOT NULL PRIMARY KEY CHECK (slot IN ('blue', 'green', 'plain')),
        release_id TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('live', 'candidate', 'standby', 'empty')),
        since TEXT NOT NULL,
        standby_until TEXT NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "slots" VALUES('blue','r2','candidate','2026-11-26T20:00:00.000Z','');
INSERT INTO "slots" VALUES('green','','empty','2026-11-26T20:00:00.000Z','');
INSERT INTO "slots" VALUES('plain','r1','live','2026-11-26T20:00:00.000Z','');
CREATE INDEX runs_unfinished ON runs (number) WHERE state IN ('running', 'parked');
CREATE INDEX releases_by_fingerprint ON releases (fingerprint, number);
CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END;
CREATE TRIGGER audit_events_last BEFORE DELETE ON audit_events
    BEGIN SELECT RAISE(ABORT, 'audit events are never removed'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('releases',3);
INSERT INTO "sqlite_sequence" VALUES('runs',1);
COMMIT;
