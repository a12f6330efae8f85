-- What each role may do on ClickHouse: run once by an administrator, with the passwords as parameters.
--
--   clickhouse-client --param_project_password=… --param_edge_password=… --param_analyst_password=… \
--       --queries-file ops/users/clickhouse.sql
--
-- (ops/compose has the same as clickhouse/users.xml, with the passwords' hashes from files.)

CREATE DATABASE IF NOT EXISTS tidings;

CREATE SETTINGS PROFILE IF NOT EXISTS tidings_writer SETTINGS async_insert = 0, max_execution_time = 60;
CREATE SETTINGS PROFILE IF NOT EXISTS tidings_reader SETTINGS readonly = 2, max_execution_time = 10, max_memory_usage = 1000000000;
CREATE SETTINGS PROFILE IF NOT EXISTS tidings_analyst SETTINGS readonly = 2, max_execution_time = 60 MAX 300,
    max_memory_usage = 4000000000 MAX 8000000000, max_threads = 4 MAX 8, max_result_bytes = 67108864;
CREATE QUOTA IF NOT EXISTS tidings_analyst KEYED BY user_name
    FOR INTERVAL 1 hour MAX queries = 1000, execution_time = 1800, read_rows = 50000000000;

-- Makes and fills the tables.
CREATE USER IF NOT EXISTS project IDENTIFIED WITH sha256_password BY {project_password:String} SETTINGS PROFILE tidings_writer;
GRANT SELECT, INSERT, CREATE TABLE, CREATE VIEW, ALTER, DROP TABLE, DROP VIEW, TRUNCATE, OPTIMIZE ON tidings.* TO project;
GRANT CREATE DATABASE ON tidings.* TO project;

-- Reads history.
CREATE USER IF NOT EXISTS edge IDENTIFIED WITH sha256_password BY {edge_password:String} SETTINGS PROFILE tidings_reader;
GRANT SELECT ON tidings.* TO edge;

-- Asks questions: the tables and views, nothing of the server, within a quota.
CREATE USER IF NOT EXISTS analyst IDENTIFIED WITH sha256_password BY {analyst_password:String} SETTINGS PROFILE tidings_analyst;
GRANT SELECT ON tidings.* TO analyst;
ALTER QUOTA tidings_analyst TO analyst;
