//! Least privilege: the permissions on Kafka are those that the roles need, and the roles of all stores have their users.

use std::{collections::BTreeSet, process::Command};

use tidings_schemas::topics::Topic;

use crate::files::{read, root};

fn permissions() -> Vec<String> {
    let printed = Command::new(root().join("ops/users/kafka-acls")).arg("--print").output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn topics(role: &str, operation: &str) -> BTreeSet<String> {
    let wanted = format!("--allow-principal User:{role} --operation {operation} --topic ");
    let permissions = permissions();
    let named = permissions.iter().filter_map(|line| line.strip_prefix(&wanted));
    let named = named.filter(|topics| !topics.contains("prefixed")).flat_map(|topics| topics.split(" --topic "));
    named.map(|topic| topic.strip_prefix("tidings.").expect("the prefix").to_owned()).collect()
}

#[test]
fn every_topic_is_written_by_one_role_and_read_by_who_needs_it() {
    let set = |topics: &[Topic]| -> BTreeSet<String> { topics.iter().map(|topic| topic.name().to_owned()).collect() };
    let with_meta = |mut topics: BTreeSet<String>| {
        topics.insert("meta.v1".to_owned());
        topics
    };
    // ARCHITECTURE.md: who makes which topic.
    let edge = [Topic::Events, Topic::Signals, Topic::Directory, Topic::Leases];
    let stages = [Topic::Timeline, Topic::Fanout, Topic::Inbox, Topic::Deliveries, Topic::Notifications];
    assert_eq!(topics("edge", "Write"), set(&edge));
    assert_eq!(topics("dataflow", "Write"), with_meta(set(&stages)));
    assert_eq!(topics("project", "Write"), BTreeSet::new());
    assert_eq!(edge.len() + stages.len(), Topic::ALL.len(), "a topic that nobody writes");
    assert_eq!(topics("dataflow", "Read"), with_meta(set(&[Topic::Events, Topic::Fanout, Topic::Signals])));
    assert_eq!(topics("edge", "Read"), with_meta(set(&[Topic::Deliveries, Topic::Directory, Topic::Leases])));
    let viewed = tidings_dataflow::views::projection::TOPICS;
    let archived = tidings_dataflow::archive::projection::TOPICS;
    assert_eq!(topics("project", "Read"), with_meta(set(&[&viewed[..], &archived[..]].concat())));
    for line in permissions() {
        assert!(!line.contains("All") && !line.contains("Delete") && !line.contains("Alter"), "{line}");
    }
}

#[test]
fn every_store_has_its_users() {
    let redis = read("ops/users/redis.acl");
    let users: Vec<&str> = redis.lines().filter_map(|line| line.strip_prefix("user ")?.split(' ').next()).collect();
    assert_eq!(users, ["default", "project", "edge"]);
    let (sql, xml) = (read("ops/users/clickhouse.sql"), read("ops/compose/clickhouse/users.xml"));
    for user in ["project", "edge", "analyst"] {
        assert!(sql.contains(&format!("CREATE USER IF NOT EXISTS {user} ")), "{user}");
        assert!(
            xml.contains(&format!("<{user}>")) && xml.contains(&format!("{}_SHA256", user.to_uppercase())),
            "{user}"
        );
    }
    for line in sql.lines().filter(|line| line.starts_with("GRANT") && !line.ends_with("TO project;")) {
        assert!(line.starts_with("GRANT SELECT ON tidings.* TO "), "{line}");
    }
    // The analysts' profile is the same in both, and each of its limits has a floor: 0 would be none.
    let profile = xml.split("<tidings_analyst>").nth(1).and_then(|rest| rest.split("<constraints>").next()).unwrap();
    let of_sql = sql.split("IF NOT EXISTS tidings_analyst SETTINGS").nth(1).unwrap().split(';').next().unwrap();
    let constraints = xml.split("<constraints>").nth(1).unwrap().split("</constraints>").next().unwrap();
    for setting in profile.lines().filter_map(|line| line.trim().strip_prefix('<')).filter(|line| line.contains("</")) {
        let (name, rest) = setting.split_once('>').unwrap();
        let value = rest.split('<').next().unwrap();
        let is_text = value.starts_with(|first: char| first.is_alphabetic());
        let value = if is_text { &*format!("'{value}'") } else { value };
        assert!(of_sql.contains(&format!("{name} = {value}")), "{name} = {value}");
        if name.starts_with("max_") {
            let bound = format!("<{name}><min>1</min><max>");
            let max = constraints.split(&bound).nth(1).and_then(|rest| rest.split('<').next());
            let max = max.unwrap_or_else(|| panic!("{name} has no bounds"));
            assert!(of_sql.contains(&format!("{name} = {value} MIN 1 MAX {max}")), "{name}");
        }
    }
    for query in xml.split("<query>").skip(1).filter_map(|rest| rest.split('<').next()) {
        assert!(sql.contains(&format!("{query} TO ")), "not the same as clickhouse.sql: {query}");
    }
}

#[test]
fn secrets_are_made_whole_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let make = || {
        let made = Command::new(root().join("ops/compose/make-secrets")).arg(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    make();
    let compose = &crate::files::yaml("ops/compose/compose.yaml")[0];
    for (name, secret) in crate::files::entries(&compose["secrets"]) {
        assert_eq!(secret["file"], format!("./secrets/{name}"));
        assert!(!text(&name).is_empty(), "{name}");
    }
    assert!(!text("redis-acl").contains("SHA256") && !text("redis-acl").contains("\n#"), "comments are no users");
    assert!(!text("clickhouse-users").contains("SHA256"));
    let before = (text("kafka-admin"), text("token-keys"));
    make();
    assert_eq!(before, (text("kafka-admin"), text("token-keys")));
}
