//! Metrics: what dashboards, alerts and docs/OPERATIONS.md name is what the program registers.
//!
//! An empty family is not in `/metrics`, so the names are read from where they are registered; a running program is held
//! against that.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::files::{names, read, strings, yaml};

/// Where metrics are registered.
const SOURCES: [&str; 8] = [
    "edge/src/metrics.rs",
    "edge/src/http/metrics.rs",
    "dataflow/src/host/metrics.rs",
    "dataflow/src/views/projection/metrics.rs",
    "dataflow/src/archive/projection/metrics.rs",
    "ingest/src/embedded/metrics.rs",
    "ingest/src/kafka/metrics.rs",
    "ops/src/node/health.rs",
];

/// By name: kind and meaning.
type Known = BTreeMap<String, (String, String)>;

/// Notes a metric. The two logs count the same in words of their own.
fn note(known: &mut Known, name: String, kind: &str, help: &str) {
    let (known_kind, known_help) = known.entry(name.clone()).or_insert_with(|| (kind.to_owned(), help.to_owned()));
    assert_eq!(known_kind, kind, "{name}");
    if !known_help.split("; ").any(|known| known == help) {
        *known_help = format!("{known_help}; {help}");
    }
}

/// The text in quotes at the start, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    text.trim_start().strip_prefix('"')?.split_once('"')
}

/// The metrics of one source file.
fn scan(path: &str, known: &mut Known) {
    let text = read(path);
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code = code.split_whitespace().collect::<Vec<_>>().join(" ").replace("( \"", "(\"");
    let prefix = code.split("sub_registry_with_prefix(").nth(1).and_then(quoted).map(|(prefix, _)| prefix);
    // What a variable was set to.
    let variable = |name: &str| {
        let set = format!("let {name} = ");
        code.split(&set).nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_else(|| panic!("{path}: no {name}"))
    };
    for (call, has_unit) in [(".register(", false), (".register_with_unit(", true)] {
        for rest in code.split(call).skip(1) {
            let Some((name, rest)) = quoted(rest) else { continue };
            let prefix = prefix.unwrap_or_else(|| panic!("{path}: {name} has no prefix"));
            let rest = rest.trim_start_matches(',').trim_start();
            let (help, rest) = match quoted(rest) {
                Some((help, rest)) => (help, rest),
                None => {
                    let (name, rest) = rest.split_once(',').unwrap();
                    (quoted(variable(name)).unwrap().0, rest)
                }
            };
            let mut arguments = rest.trim_start_matches(',').split([',', ')']).map(str::trim);
            let unit = has_unit.then(|| arguments.next().unwrap().trim_start_matches("Unit::").to_lowercase());
            let value = arguments.next().unwrap();
            let value = if value.contains('.') { value } else { variable(value) };
            let field = value.trim_end_matches("()").trim_end_matches(".clone(").trim_end_matches(".clone");
            let field = field.rsplit('.').next().unwrap();
            let declared =
                code.split(&format!("{field}: ")).nth(1).unwrap_or_else(|| panic!("{path}: no field {field}"));
            let kinds = ["counter", "gauge", "histogram"];
            let kind = kinds
                .into_iter()
                .filter_map(|kind| Some((declared.to_lowercase().find(kind)?, kind)))
                .min()
                .unwrap_or_else(|| panic!("{path}: what is {field}?"))
                .1;
            let name = unit.map_or(format!("{prefix}_{name}"), |unit| format!("{prefix}_{name}_{unit}"));
            note(known, name, kind, help);
        }
    }
    // What a log counts (ingest/src/collector.rs): lists of names, refusals, a histogram; and single descriptors.
    for (list, kind) in [("counters: vec![", "counter"), ("gauges: vec![", "gauge")] {
        for rest in code.split(list).skip(1) {
            for entry in rest.split("],").next().unwrap().split("(\"").skip(1) {
                let (name, rest) = entry.split_once('"').unwrap();
                let help = quoted(rest.trim_start_matches(',')).unwrap().0;
                note(known, format!("tidings_ingest_{name}"), kind, help);
            }
        }
    }
    if code.contains("refused: vec![") {
        note(known, "tidings_ingest_refused".to_owned(), "counter", "Append calls refused, by reason");
    }
    for rest in code.split("latency: Latency { name:").skip(1) {
        let (name, rest) = quoted(rest).unwrap();
        let help = quoted(rest.split("help:").nth(1).unwrap()).unwrap().0;
        note(known, format!("tidings_ingest_{name}"), "histogram", help);
    }
    for rest in code.split("encode_descriptor(").skip(1) {
        let Some((name, rest)) = quoted(rest) else { continue };
        let (help, rest) = quoted(rest.trim_start_matches(',')).unwrap();
        let kind = rest.split("MetricType::").nth(1).unwrap().split([')', ',']).next().unwrap();
        note(known, name.to_owned(), &kind.to_lowercase(), help);
    }
}

fn known() -> Known {
    let mut known = Known::new();
    for path in SOURCES {
        scan(path, &mut known);
    }
    assert!(known.len() > 50, "only {} metrics were found", known.len());
    known
}

/// The names that samples have.
fn samples() -> BTreeSet<String> {
    let of = |(name, (kind, _)): (String, (String, String))| match kind.as_str() {
        "counter" => vec![format!("{name}_total")],
        "histogram" => ["bucket", "sum", "count"].iter().map(|part| format!("{name}_{part}")).collect(),
        _ => vec![name],
    };
    known().into_iter().flat_map(of).collect()
}

/// The metrics of ours that a query names.
fn named(query: &str) -> Vec<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tidings_")).map(str::to_owned).collect()
}

/// Brackets close in the order in which they were opened, and something is between them.
fn is_balanced(query: &str) -> bool {
    let mut open = Vec::new();
    let mut in_text = false;
    for c in query.chars() {
        match c {
            '"' => in_text = !in_text,
            _ if in_text => {}
            '(' | '[' | '{' => open.push(c),
            ')' | ']' | '}' => {
                let opened = open.pop();
                if !matches!((opened, c), (Some('('), ')') | (Some('['), ']') | (Some('{'), '}')) {
                    return false;
                }
            }
            _ => {}
        }
    }
    open.is_empty() && !in_text && !query.trim().is_empty()
}

fn check_query(whence: &str, query: &str, samples: &BTreeSet<String>) {
    assert!(is_balanced(query), "{whence}: {query}");
    for name in named(query) {
        assert!(samples.contains(&name), "{whence}: there is no metric {name}");
    }
}

#[test]
fn queries_that_are_wrong_are_found() {
    assert!(is_balanced("sum(rate(a{b=\"(\"}[1m]))"));
    for wrong in ["sum(a", "sum(a]", "a{b=\"c}", ""] {
        assert!(!is_balanced(wrong), "{wrong}");
    }
    assert_eq!(named("rate(tidings_edge_no_such_total[1m])"), ["tidings_edge_no_such_total"]);
    assert!(!samples().contains("tidings_edge_no_such_total"));
}

#[test]
fn every_panel_of_the_dashboards_asks_for_what_there_is() {
    let samples = samples();
    let datasources = &yaml("ops/grafana/provisioning/datasources/prometheus.yaml")[0]["datasources"];
    let uid = datasources[0]["uid"].as_str().unwrap();
    assert_eq!(datasources[0]["url"], "http://prometheus:9090");
    let mut asked = BTreeSet::new();
    for name in names("ops/grafana/dashboards", ".json") {
        let dashboard: Value = serde_json::from_str(&read(&format!("ops/grafana/dashboards/{name}"))).unwrap();
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
            if panel["type"] == "row" {
                continue;
            }
            let is_sql = panel["datasource"]["uid"] == "clickhouse";
            assert!(is_sql || panel["datasource"]["uid"] == uid, "{title}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{title} asks for nothing");
            for target in targets {
                if is_sql {
                    // Each runs in the tests of the archive (`cargo test --test analytics`).
                    assert!(target["rawSql"].as_str().is_some_and(|sql| sql.contains("FROM tidings.")), "{title}");
                    continue;
                }
                let query = target["expr"].as_str().unwrap();
                check_query(&format!("{name}: {title}"), query, &samples);
                assert!(!named(query).is_empty(), "{title}: {query} names nothing of ours");
                asked.extend(named(query));
            }
        }
    }
    for what in ["lag", "connections", "dropped", "checkpoint", "records"] {
        assert!(asked.iter().any(|name| name.contains(what)), "no panel about {what}");
    }
}

#[test]
fn the_product_dashboard_has_its_plugin_and_its_user() {
    let datasource = &yaml("ops/grafana/provisioning/datasources/clickhouse.yaml")[0]["datasources"][0];
    assert_eq!(datasource["uid"], "clickhouse");
    assert_eq!(datasource["jsonData"]["username"], "analyst");
    let compose = &yaml("ops/compose/compose.yaml")[0]["services"]["grafana"];
    let plugins = compose["environment"]["GF_INSTALL_PLUGINS"].as_str().unwrap();
    assert!(plugins.starts_with(datasource["type"].as_str().unwrap()), "{plugins}");
    let secret = "clickhouse-analyst";
    assert!(strings(&compose["secrets"]).contains(&secret.to_owned()));
    let password = datasource["secureJsonData"]["password"].as_str().unwrap();
    assert_eq!(password, format!("$__file{{/run/secrets/{secret}}}"));
    let dashboard: Value = serde_json::from_str(&read("ops/grafana/dashboards/product.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    for panel in panels {
        assert_eq!(panel["datasource"]["type"].as_str(), datasource["type"].as_str(), "{}", panel["title"]);
    }
}

/// The headings of docs/OPERATIONS.md below one, with their text.
fn runbooks() -> BTreeMap<String, String> {
    let text = read("docs/OPERATIONS.md");
    let section = text.split("\n## Alerts").nth(1).expect("a section about alerts").split("\n## ").next().unwrap();
    let parts = section.split("\n### ").skip(1);
    parts.map(|part| part.split_once('\n').unwrap()).map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

#[test]
fn every_alert_asks_for_what_there_is_and_has_its_runbook() {
    let samples = samples();
    let rules = &yaml("ops/prometheus/alerts.yaml")[0]["groups"][0]["rules"];
    let mut alerts = BTreeSet::new();
    for rule in rules.as_sequence().unwrap() {
        let name = rule["alert"].as_str().unwrap();
        assert!(alerts.insert(name.to_owned()), "{name} twice");
        check_query(name, rule["expr"].as_str().unwrap(), &samples);
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(rule["annotations"]["summary"].is_string(), "{name} says nothing");
    }
    let runbooks = runbooks();
    assert_eq!(alerts, runbooks.keys().cloned().collect(), "alerts, and runbooks in docs/OPERATIONS.md");
    for (name, text) in runbooks {
        assert!(text.trim().len() > 80, "{name}: too short to help");
    }
    let prometheus = &yaml("ops/prometheus/prometheus.yaml")[0];
    assert_eq!(strings(&prometheus["rule_files"]), ["alerts.yaml"]);
}

/// The rows of the table of metrics in docs/OPERATIONS.md: name, kind, labels, meaning.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let text = read("docs/OPERATIONS.md");
    let rows = text.lines().filter(|line| line.starts_with("| `tidings_"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let labels =
            cells[2].split(", ").filter(|label| !label.is_empty()).map(|label| label.trim_matches('`').to_owned());
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels.collect(), cells[3].to_owned()))
    })
    .collect()
}

#[test]
fn the_document_lists_every_metric() {
    let known = known();
    let wanted: String =
        known.iter().map(|(name, (kind, help))| format!("| `{name}` | {kind} |  | {help} |\n")).collect();
    let documented: Known = documented().into_iter().map(|(name, (kind, _, help))| (name, (kind, help))).collect();
    let differing: Vec<_> = known.iter().filter(|(name, what)| documented.get(*name) != Some(*what)).collect();
    assert!(differing.is_empty(), "docs/OPERATIONS.md is stale: {differing:#?}\nall of them:\n{wanted}");
    assert_eq!(known, documented, "metrics that are no more");
}

/// What a running program shows: kinds and meanings by name, and the labels of its samples.
fn shown() -> (Known, Vec<(String, BTreeSet<String>)>) {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_tidings"))
        .args(["up", "--listen", "127.0.0.1:0", "--set", "archive.enabled=false", "--data"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = None;
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, rest)) = line.split_once("http://").filter(|_| line.contains("/metrics")) {
            address = rest.split('/').next().map(str::to_owned);
            break;
        }
    }
    let mut stream = TcpStream::connect(address.expect("it says where its metrics are")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();

    let mut shown = Known::new();
    let mut labels = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            // The library ends it as a sentence.
            shown.entry(name.to_owned()).or_default().1 = help.trim_end_matches('.').to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            shown.entry(name.to_owned()).or_default().0 = kind.to_owned();
        } else if let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let keys =
                rest.split('}').next().unwrap().split("\",").map(|pair| pair.split('=').next().unwrap().to_owned());
            labels.push((name.to_owned(), keys.filter(|key| key != "le").collect()));
        }
    }
    (shown, labels)
}

#[test]
fn a_running_program_shows_what_was_read_from_its_source() {
    let (shown, labels) = shown();
    let (known, documented) = (known(), documented());
    assert!(shown.len() > 30, "{shown:?}");
    for (name, (kind, help)) in &shown {
        let (known_kind, known_help) = known.get(name).unwrap_or_else(|| panic!("{name} is not in the source"));
        assert_eq!(known_kind, kind, "{name}");
        assert!(known_help.split("; ").any(|known| known == help), "{name}: {known_help}, and it shows {help}");
    }
    for (sample, keys) in labels {
        let possible = documented.iter().filter(|(name, _)| sample.starts_with(name.as_str()));
        let (_, documented, _) = possible.max_by_key(|(name, _)| name.len()).unwrap_or_else(|| panic!("{sample}")).1;
        assert_eq!(documented, &keys, "labels of {sample}");
    }
}
