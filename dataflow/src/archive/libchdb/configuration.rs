//! The engine's own configuration, made to share two cores with a chat that must not notice it.
//!
//! Written anew at every start, so that it is always that of the program that runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tidings_schemas::limits;

use crate::archive::analyst::{self, AnalystLimits};

/// What of the engine may be set.
#[derive(Debug, Clone)]
pub struct EngineConfiguration {
    /// Where `libchdb.so` is.
    pub library: PathBuf,
    /// The folder that holds everything of the archive. Made when it is not there.
    pub folder: PathBuf,
    /// The prefix of the databases that may be used; the engine is given no right to anything else but `system`.
    pub database_prefix: String,
    /// Memory of all queries, inserts and merges together, in bytes. Over: the statement fails.
    pub memory_bytes_max: usize,
    /// What one statement of an analyst's may take.
    pub analyst: AnalystLimits,
}

impl EngineConfiguration {
    /// Where the library is by default: `$TIDINGS_LIBCHDB`, else where `ops/fetch-libchdb` puts it
    /// (`$TIDINGS_CACHE`, else `~/.cache/tidings`).
    pub fn default_library() -> PathBuf {
        if let Some(path) = std::env::var_os("TIDINGS_LIBCHDB").filter(|path| !path.is_empty()) {
            return path.into();
        }
        let cache = std::env::var_os("TIDINGS_CACHE").filter(|path| !path.is_empty()).map_or_else(
            || {
                let home = std::env::var_os("HOME").unwrap_or_default();
                PathBuf::from(home).join(".cache/tidings")
            },
            PathBuf::from,
        );
        cache.join(format!("libchdb-{LIBRARY_VERSION}")).join("libchdb.so")
    }

    /// The engine in `folder`, with the library at its default place and the default limits.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            library: Self::default_library(),
            folder: folder.into(),
            database_prefix: "tidings".to_owned(),
            memory_bytes_max: limits::ARCHIVE_MEMORY_BYTES_MAX,
            analyst: AnalystLimits::default(),
        }
    }
}

/// The version of libchdb that `ops/fetch-libchdb` fetches.
pub const LIBRARY_VERSION: &str = "26.7.3-stable.1";

/// The engine's data, below the folder.
pub(super) fn data_path(folder: &Path) -> PathBuf {
    folder.join("engine")
}

/// Writes the two configuration files and returns the path of the main one.
pub(super) fn write(configuration: &EngineConfiguration) -> io::Result<PathBuf> {
    let folder = &configuration.folder;
    let users = folder.join("users.xml");
    replace(&users, &users_xml(configuration))?;
    let main = folder.join("config.xml");
    replace(&main, &main_xml(configuration, &users))?;
    Ok(main)
}

/// Measured on two cores at 40,000 rows/s: 4 % of a core with these and 16 to 20 threads, of which nearly all sleep;
/// idle 0.1 % of a core. Merges are as nice as can be: they may wait, the chat may not.
fn main_xml(configuration: &EngineConfiguration, users: &Path) -> String {
    let users = escaped(&users.to_string_lossy());
    let memory = configuration.memory_bytes_max;
    let cache = memory / 16;
    format!(
        "<clickhouse>
  <users_config>{users}</users_config>
  <background_pool_size>1</background_pool_size>
  <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
  <background_schedule_pool_size>2</background_schedule_pool_size>
  <background_common_pool_size>1</background_common_pool_size>
  <background_move_pool_size>1</background_move_pool_size>
  <background_fetches_pool_size>1</background_fetches_pool_size>
  <os_threads_nice_value_merge_mutate>19</os_threads_nice_value_merge_mutate>
  <max_thread_pool_size>128</max_thread_pool_size>
  <max_thread_pool_free_size>8</max_thread_pool_free_size>
  <max_io_thread_pool_size>8</max_io_thread_pool_size>
  <max_active_parts_loading_thread_pool_size>4</max_active_parts_loading_thread_pool_size>
  <max_outdated_parts_loading_thread_pool_size>2</max_outdated_parts_loading_thread_pool_size>
  <max_parts_cleaning_thread_pool_size>2</max_parts_cleaning_thread_pool_size>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
  <memory_worker_use_cgroup>false</memory_worker_use_cgroup>
  <memory_worker_period_ms>1000</memory_worker_period_ms>
  <mark_cache_size>{cache}</mark_cache_size>
  <primary_index_cache_size>{cache}</primary_index_cache_size>
  <query_condition_cache_size>8388608</query_condition_cache_size>
  <compiled_expression_cache_size>16777216</compiled_expression_cache_size>
  <jemalloc_enable_background_threads>false</jemalloc_enable_background_threads>
</clickhouse>
"
    )
}

/// One user, who owns the archive's databases and may read `system`; no right to files, URLs or other servers, so no
/// query can reach them. One query may take at most half of the memory. Analysts' sessions take on a role that only
/// reads.
///
/// Times without a zone are in UTC, as every column and every document says, and not in the zone of the machine (`TZ`).
///
/// The constraints hold for every session: the settings of an analyst's session are within them, and nothing that comes
/// after can leave them.
fn users_xml(configuration: &EngineConfiguration) -> String {
    let prefix = escaped(&configuration.database_prefix);
    let analyst = &configuration.analyst;
    let query_memory = (configuration.memory_bytes_max as u64 / 2).max(analyst.memory_bytes);
    format!(
        "<clickhouse>
  <profiles><default>
    <implicit_select>0</implicit_select>
    <session_timezone>UTC</session_timezone>
    <max_threads>{threads_max}</max_threads>
    <allow_introspection_functions>0</allow_introspection_functions>
    <max_memory_usage>{query_memory}</max_memory_usage>
    <max_bytes_before_external_group_by>{spill}</max_bytes_before_external_group_by>
    <max_bytes_before_external_sort>{spill}</max_bytes_before_external_sort>
    <constraints>
      <max_memory_usage><min>1</min><max>{query_memory}</max></max_memory_usage>
      <max_execution_time><min>1</min><max>{time_max}</max></max_execution_time>
      <max_result_rows><min>1</min><max>{rows_max}</max></max_result_rows>
      <max_rows_to_read><min>1</min><max>{read_max}</max></max_rows_to_read>
      <timeout_overflow_mode><const/></timeout_overflow_mode>
      <result_overflow_mode><const/></result_overflow_mode>
      <read_overflow_mode><const/></read_overflow_mode>
      <max_result_bytes><min>1</min><max>{result_max}</max></max_result_bytes>
      <max_threads><min>1</min><max>{threads_max}</max></max_threads>
    </constraints>
  </default></profiles>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants>
      <query>GRANT owner</query>
      <query>GRANT {role}</query>
    </grants>
  </default></users>
  <roles>
    <owner><grants>
      <query>GRANT ALL ON {prefix}*.*</query>
      <query>GRANT SELECT, SHOW ON system.*</query>
      <query>GRANT SELECT, SHOW ON information_schema.*</query>
      <query>GRANT SELECT, SHOW ON INFORMATION_SCHEMA.*</query>
    </grants></owner>
    <{role}><grants>
      <query>GRANT SELECT, SHOW ON {prefix}*.*</query>
      <query>GRANT SELECT, SHOW ON information_schema.*</query>
      <query>GRANT SELECT, SHOW ON INFORMATION_SCHEMA.*</query>
    </grants></{role}>
  </roles>
  <quotas><default/></quotas>
</clickhouse>
",
        spill = query_memory / 2,
        role = analyst::ROLE,
        time_max = analyst.execution_time.max(limits::ARCHIVE_INSERT_TIMEOUT).as_secs(),
        rows_max = analyst.result_rows,
        read_max = analyst.rows_to_read,
        result_max = limits::ARCHIVE_SQL_RESULT_BYTES_MAX,
        threads_max = limits::ARCHIVE_SQL_THREADS_MAX,
    )
}

fn replace(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, content)?;
    fs::rename(&temporary, path)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
