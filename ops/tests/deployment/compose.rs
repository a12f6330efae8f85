//! The compose files: what a service names is there, and each can be seen to be well.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml_ng::Value;

use crate::files::{entries, read, root, strings, yaml};

/// compose.yaml, and with the override on it: services, volumes.
fn variants() -> Vec<BTreeMap<String, Value>> {
    let base = yaml("ops/compose/compose.yaml").remove(0);
    let over = yaml("ops/compose/compose.three-brokers.yaml").remove(0);
    let mut merged = base.clone();
    for section in ["services", "volumes"] {
        for (name, value) in entries(&over[section]) {
            let target = &mut merged[section][name.as_str()];
            if target.is_null() {
                *target = value;
            } else {
                for (key, part) in entries(&value) {
                    for (inner, leaf) in entries(&part) {
                        target[key.as_str()][inner.as_str()] = leaf;
                    }
                }
            }
        }
    }
    [base, merged].into_iter().map(|value| entries(&value).into_iter().collect()).collect()
}

fn declared(file: &BTreeMap<String, Value>, section: &str) -> BTreeSet<String> {
    file.get(section).map(entries).unwrap_or_default().into_iter().map(|(name, _)| name).collect()
}

/// The name of a secret that a service uses, in either form.
fn secret_names(service: &Value) -> Vec<String> {
    let items = service["secrets"].as_sequence().cloned().unwrap_or_default();
    items
        .iter()
        .map(|item| item.as_str().or_else(|| item["source"].as_str()).expect("a secret has a name").to_owned())
        .collect()
}

#[test]
fn what_a_service_names_is_there() {
    for file in variants() {
        let services = declared(&file, "services");
        let (volumes, secrets) = (declared(&file, "volumes"), declared(&file, "secrets"));
        let networks = declared(&file, "networks");
        let mut used_volumes = BTreeSet::new();
        let mut used_secrets = BTreeSet::new();
        let mut ports = BTreeSet::new();
        for (name, service) in entries(&file["services"]) {
            for (other, how) in entries(&service["depends_on"]) {
                assert!(services.contains(&other), "{name} depends on {other}, which is not there");
                if how["condition"] == "service_healthy" {
                    assert!(!file["services"][other.as_str()]["healthcheck"].is_null(), "{other} cannot be healthy");
                }
            }
            for volume in strings(&service["volumes"]) {
                let source = volume.split(':').next().unwrap();
                if source.starts_with('.') {
                    assert!(root().join("ops/compose").join(source).exists(), "{name}: there is no {source}");
                    assert!(volume.ends_with(":ro"), "{name}: {source} can be written to");
                } else {
                    assert!(volumes.contains(source), "{name}: volume {source} is not declared");
                    used_volumes.insert(source.to_owned());
                }
            }
            for secret in secret_names(&service) {
                assert!(secrets.contains(&secret), "{name}: secret {secret} is not declared");
                used_secrets.insert(secret);
            }
            for network in strings(&service["networks"]) {
                assert!(networks.contains(&network), "{name}: network {network} is not declared");
            }
            for port in strings(&service["ports"]) {
                assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to all");
                let outside = port.split(':').nth(1).unwrap().to_owned();
                assert!(ports.insert(outside), "{name}: {port} is taken by another");
            }
            let ends = service["restart"] == "on-failure";
            assert!(ends || !service["healthcheck"].is_null(), "{name} has no health check");
            assert!(!service["restart"].is_null(), "{name} is not restarted");
            // Every file that its environment names as a secret is given to it.
            for (variable, value) in entries(&service["environment"]) {
                let Some(secret) = value.as_str().and_then(|value| value.strip_prefix("/run/secrets/")) else {
                    continue;
                };
                assert!(
                    secret_names(&service).iter().any(|given| given == secret),
                    "{name}: {variable} names {secret}"
                );
            }
        }
        assert_eq!(used_volumes, volumes, "volumes that nobody uses");
        assert_eq!(used_secrets, secrets, "secrets that nobody uses");
    }
}

#[test]
fn the_fleet_is_whole() {
    let files = variants();
    let count = |file: usize, role: &str| {
        declared(&files[file], "services").iter().filter(|name| name.starts_with(role)).count()
    };
    assert_eq!([count(0, "edge-"), count(0, "dataflow-"), count(0, "project-")], [3, 2, 2]);
    assert_eq!((count(0, "kafka-") - 1, count(1, "kafka-") - 1), (1, 3), "brokers, without who gives permissions");
    let voters = |name: &str| files[1]["services"][name]["environment"]["VOTERS"].as_str().unwrap().to_owned();
    for broker in ["kafka-1", "kafka-2", "kafka-3"] {
        assert_eq!(voters(broker), voters("kafka-1"));
        let number = files[1]["services"][broker]["environment"]["NODE_ID"].as_str().unwrap();
        assert_eq!(format!("kafka-{number}"), broker);
        assert!(strings(&files[1]["services"][broker]["volumes"]).contains(&format!("{broker}:/var/lib/kafka/data")));
    }
}

#[test]
fn kafka_is_the_version_that_is_tested() {
    let pom = read("ops/kafka-pom.xml");
    let version = pom.split("<kafka.version>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
    for file in variants() {
        for (name, service) in entries(&file["services"]) {
            let Some(tag) = service["image"].as_str().and_then(|image| image.strip_prefix("apache/kafka:")) else {
                continue;
            };
            assert_eq!(tag, version, "{name}");
        }
    }
}

/// The port that a role listens on is the one that is asked for its health, scraped and balanced.
#[test]
fn ports_and_paths_agree() {
    let file = &variants()[0];
    let balancer = read("ops/compose/haproxy.cfg");
    let targets: Vec<String> = yaml("ops/prometheus/targets.yaml")[0]
        .as_sequence()
        .unwrap()
        .iter()
        .flat_map(|group| strings(&group["targets"]))
        .collect();
    let mut scraped = 0;
    for (name, service) in entries(&file["services"]) {
        let command = strings(&service["command"]);
        let Some(listen) = command.iter().position(|arg| arg == "--listen") else { continue };
        let port = command[listen + 1].rsplit(':').next().unwrap();
        let health = strings(&service["healthcheck"]["test"]).pop().unwrap();
        let path =
            health.strip_prefix(&format!("http://127.0.0.1:{port}")).unwrap_or_else(|| panic!("{name}: {health}"));
        assert!(["/livez", "/readyz"].contains(&path), "{name}: {path}");
        assert!(targets.contains(&format!("{name}:{port}")), "{name} is not scraped");
        scraped += 1;
        let is_balanced = balancer.contains(&format!("server {name} {name}:{port}"));
        assert_eq!(is_balanced, name.starts_with("edge-"), "{name} behind the balancer");
    }
    assert_eq!(scraped, targets.len(), "targets that are no service");
    // Sockets live as long as both sides give signs of life.
    let timeout = |what: &str| -> u64 {
        let line = balancer.lines().find(|line| line.trim().starts_with(what)).unwrap();
        line.trim().trim_start_matches(what).trim().trim_end_matches('s').parse().unwrap()
    };
    assert!(timeout("timeout tunnel") > 2 * tidings_schemas::limits::HEARTBEAT_INTERVAL.as_secs());
}
