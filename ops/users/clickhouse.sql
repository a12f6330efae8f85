-- What each role may do on ClickHouse: run once by an administrator, with the passwords as parameters.
--
--   clickhouse-client --param_project_password=… --param_edge_password=… --param_analyst_password=… \
--       --queries-file ops/users/clickhouse.sql
--
-- (ops/compose has the same as clickhouse/users.xml, with the passwords' hashes from files.)

CREATE DATABASE IF NOT EXISTS tidings;

CREATE SETTINGS PROFILE IF NOT EXISTS tidings_writer SETTINGS async_insert = 0, max_execution_time = 60;
CREATE SETTINGS PROFILE IF NOT EXISTS tidings_reader SETTINGS readonly = 2, max_execution_time = 10, max_memory_usage = 1000000000;
-- `final` shows no row twice that no merge has replaced yet. A limit can be lowered by a query and not lifted; MIN 1,
-- because 0 would be none. readonly = 2 lets clients set what they set (1 refuses every setting, and with it most clients). A
-- subquery's own SETTINGS can lift the time all the same: the quota is what bounds that.
CREATE SETTINGS PROFILE IF NOT EXISTS tidings_analyst SETTINGS readonly = 2 CONST, final = 1, session_timezone = 'UTC',
    do_not_merge_across_partitions_select_final = 1, max_execution_time = 60 MIN 1 MAX 300,
    max_memory_usage = 4000000000 MIN 1 MAX 8000000000, max_threads = 4 MIN 1 MAX 8,
    max_rows_to_read = 2000000000 MIN 1 MAX 20000000000, max_result_rows = 1000000 MIN 1 MAX 1000000,
    max_result_bytes = 67108864 MIN 1 MAX 67108864, result_overflow_mode = 'throw' CONST,
    read_overflow_mode = 'throw' CONST, timeout_overflow_mode = 'throw' CONST;
CREATE QUOTA IF NOT EXISTS tidings_analyst KEYED BY user_name
    FOR INTERVAL 1 hour MAX queries = 1000, execution_time = 1800, read_rows = 50000000000;

-- Makes and fills the tables.
CREATE USER IF NOT EXISTS project IDENTIFIED WITH sha256_password BY {project_password:String} SETTINGS PROFILE tidings_writer;
GRANT SELECT, INSERT, CREATE TABLE, CREATE VIEW, ALTER, DROP TABLE, DROP VIEW, TRUNCATE, OPTIMIZE ON tidings.* TO project;
GRANT CREATE DATABASE ON tidings.* TO project;
-- To see that what was erased is gone from the parts, too.
GRANT SELECT ON system.mutations TO project;
GRANT SELECT ON system.parts TO project;

-- Reads history.
CREATE USER IF NOT EXISTS edge IDENTIFIED WITH sha256_password BY {edge_password:String} SETTINGS PROFILE tidings_reader;
GRANT SELECT ON tidings.* TO edge;

-- Asks questions: the tables and views, nothing of the server, within a quota.
CREATE USER IF NOT EXISTS analyst IDENTIFIED WITH sha256_password BY {analyst_password:String} SETTINGS PROFILE tidings_analyst;
GRANT SELECT ON tidings.* TO analyst;
ALTER QUOTA tidings_analyst TO analyst;
