//! The Kubernetes manifests: what they name is there, probes ask what is answered, and nothing runs with more than it needs.

use std::{collections::BTreeSet, time::Duration};

use serde_yaml_ng::Value;
use tidings_schemas::limits;

use crate::files::{entries, names, read, strings, yaml};

const FOLDER: &str = "ops/kubernetes/base";

fn objects() -> Vec<Value> {
    let kustomization = &yaml(&format!("{FOLDER}/kustomization.yaml"))[0];
    let resources = strings(&kustomization["resources"]);
    let listed: BTreeSet<String> = resources.iter().cloned().chain(["kustomization.yaml".to_owned()]).collect();
    let there: BTreeSet<String> = names(FOLDER, ".yaml").into_iter().collect();
    assert_eq!(listed, there, "resources of the kustomization, and files");
    resources.iter().flat_map(|name| yaml(&format!("{FOLDER}/{name}"))).collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let found: Vec<Value> = objects().into_iter().filter(|object| object["kind"] == kind).collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

#[test]
fn every_role_has_a_deployment_with_probes_and_a_budget() {
    let budgets: Vec<String> = of_kind("PodDisruptionBudget").iter().map(|object| name(object).to_owned()).collect();
    let deployments = of_kind("Deployment");
    let roles: Vec<&str> = deployments.iter().map(name).collect();
    assert_eq!(roles, ["edge", "dataflow", "project"]);
    for deployment in &deployments {
        let role = name(deployment);
        assert!(budgets.iter().any(|budget| budget == role), "{role} has no disruption budget");
        assert!(deployment["spec"]["replicas"].as_u64().unwrap() >= 2, "{role} has no second");
        let pod = &deployment["spec"]["template"]["spec"];
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels, "{role} selects others");
        let container = &pod["containers"][0];
        let args = strings(&container["args"]);
        assert_eq!(args[0], role);
        let port = &container["ports"][0];
        assert!(args.contains(&format!("0.0.0.0:{}", port["containerPort"].as_u64().unwrap())), "{role}: {args:?}");
        for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/livez"), ("startupProbe", "/livez")] {
            assert_eq!(container[probe]["httpGet"]["path"], path, "{role} {probe}");
            assert_eq!(container[probe]["httpGet"]["port"], port["name"], "{role} {probe}");
        }
        assert!(!container["resources"]["requests"]["memory"].is_null(), "{role} asks for no memory");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{role}");
        let security = &container["securityContext"];
        assert_eq!(
            (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
            (&true.into(), &false.into())
        );
        assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"]);
        // What is mounted is there, and what the environment names is mounted.
        let volumes: Vec<&str> =
            pod["volumes"].as_sequence().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
        let mounts = container["volumeMounts"].as_sequence().unwrap();
        for mount in mounts {
            assert!(volumes.contains(&mount["name"].as_str().unwrap()), "{role}: {mount:?}");
        }
        for entry in container["env"].as_sequence().unwrap() {
            let value = entry["value"].as_str().unwrap();
            let is_mounted = mounts.iter().any(|mount| value.starts_with(mount["mountPath"].as_str().unwrap()));
            assert!(!value.starts_with('/') || is_mounted, "{role}: {value} is not mounted");
        }
        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(grace > drain(container), "{role}: killed before it has gone away in good order");
    }
}

/// The longest that going away takes.
fn drain(container: &Value) -> Duration {
    let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or_default();
    Duration::from_secs(pause)
        + limits::DRAIN_TIMEOUT
        + limits::SHARD_SETTLE_PATIENCE
        + limits::SHARD_LAST_CHECKPOINT_PATIENCE
}

#[test]
fn the_way_in_leads_to_the_edges() {
    let service = &of_kind("Service")[0];
    let ingress = &of_kind("Ingress")[0];
    let backend = &ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"];
    assert_eq!(backend["name"], service["metadata"]["name"]);
    assert_eq!(backend["port"]["name"], service["spec"]["ports"][0]["name"]);
    let edge = of_kind("Deployment").remove(0);
    assert_eq!(service["spec"]["selector"], edge["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(
        service["spec"]["ports"][0]["targetPort"],
        edge["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"]
    );
}

#[test]
fn there_is_a_number_for_every_edge() {
    let scaler = &of_kind("HorizontalPodAutoscaler")[0];
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], "edge");
    let settings: toml::Table = read(&format!("{FOLDER}/tidings.toml")).parse().unwrap();
    let numbers = settings["kafka"]["partitions"]["edges"].as_integer().unwrap();
    let most = scaler["spec"]["maxReplicas"].as_i64().unwrap();
    assert!(most < numbers, "{most} edges and one more in a rolling restart, and {numbers} numbers");
}

#[test]
fn policies_open_the_ports_that_are_used() {
    let policies = of_kind("NetworkPolicy");
    let denied = policies.iter().find(|policy| name(policy) == "default-deny").expect("nothing is denied");
    assert!(denied["spec"]["ingress"].is_null() && denied["spec"]["egress"].is_null());
    let mut open = BTreeSet::new();
    for rule in policies.iter().flat_map(|policy| ["ingress", "egress"].map(|way| policy["spec"][way].clone())) {
        for rule in rule.as_sequence().cloned().unwrap_or_default() {
            open.extend(rule["ports"].as_sequence().unwrap().iter().map(|port| port["port"].as_u64().unwrap()));
        }
    }
    let settings: toml::Table = read(&format!("{FOLDER}/tidings.toml")).parse().unwrap();
    for (section, key) in [("kafka", "brokers"), ("redis", "address"), ("clickhouse", "url")] {
        let address = settings[section][key].as_str().unwrap();
        let port: u64 = address.rsplit(':').next().unwrap().parse().unwrap();
        assert!(open.contains(&port), "{section} is on {port}, which no policy opens");
    }
    for deployment in of_kind("Deployment") {
        let port =
            deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"].as_u64().unwrap();
        assert!(open.contains(&port), "{}", name(&deployment));
    }
    assert!(entries(&denied["spec"]["podSelector"]).is_empty());
}
