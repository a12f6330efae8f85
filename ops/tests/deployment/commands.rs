//! Every `tidings` command line of the deployment files, with its environment and configuration file, tried by the program
//! itself with `--check`: unknown flags and settings, and values that cannot be, are found.

use std::process::Command;

use crate::files::{entries, names, read, root, strings, yaml};

/// A command line as a file has it.
#[derive(Debug)]
struct Line {
    whence: String,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    /// The file that stands for /etc/tidings/tidings.toml there.
    config: &'static str,
}

fn check(line: &Line) -> Result<(), String> {
    let config = root().join(line.config).display().to_string();
    let mut program = Command::new(env!("CARGO_BIN_EXE_tidings"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDINGS_")) {
        program.env_remove(name);
    }
    program.args(line.args.iter().map(|arg| if arg == "/etc/tidings/tidings.toml" { &config } else { arg }));
    // One that runs once is tried where there is nothing to work on: a wrong command line or setting has a code of its own.
    let runs_once = line.args[0] == "erase";
    program.arg(if runs_once { "--dry-run" } else { "--check" }).envs(line.environment.iter().cloned());
    let ended = program.output().unwrap();
    let is_accepted = if runs_once { ended.status.code() == Some(3) } else { ended.status.success() };
    if is_accepted { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) }
}

/// Those of compose.yaml.
fn of_compose() -> Vec<Line> {
    let compose = &yaml("ops/compose/compose.yaml")[0];
    let mut lines = Vec::new();
    for (name, service) in entries(&compose["services"]) {
        if service["image"].as_str().is_some_and(|image| image.contains("tidings:latest")) {
            let environment = entries(&service["environment"]).into_iter();
            let environment = environment.map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect();
            let args = strings(&service["command"]);
            lines.push(Line {
                whence: format!("compose {name}"),
                args,
                environment,
                config: "ops/compose/tidings.toml",
            });
        }
    }
    lines
}

fn of_kubernetes() -> Vec<Line> {
    let mut lines = Vec::new();
    for name in names("ops/kubernetes/base", ".yaml") {
        for object in yaml(&format!("ops/kubernetes/base/{name}")) {
            let containers =
                object["spec"]["template"]["spec"]["containers"].as_sequence().cloned().unwrap_or_default();
            for container in containers {
                let environment = container["env"].as_sequence().cloned().unwrap_or_default();
                let environment = environment
                    .iter()
                    .map(|entry| {
                        let text =
                            |key: &str| entry[key].as_str().unwrap_or_else(|| panic!("{name}: {entry:?}")).to_owned();
                        (text("name"), text("value"))
                    })
                    .collect();
                let (whence, args) = (format!("kubernetes {name}"), strings(&container["args"]));
                lines.push(Line { whence, args, environment, config: "ops/kubernetes/base/tidings.toml" });
            }
        }
    }
    lines
}

fn of_systemd() -> Vec<Line> {
    let mut lines = Vec::new();
    for name in names("ops/systemd", ".service") {
        let text = read(&format!("ops/systemd/{name}")).replace("%i", "8080").replace("%d", "/run/credentials");
        let of = |key: &'static str| text.lines().filter_map(move |line| line.strip_prefix(key));
        let environment = of("Environment=")
            .flat_map(|line| line.split(' '))
            .map(|entry| entry.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let command = of("ExecStart=").next().unwrap_or_else(|| panic!("{name} starts nothing"));
        let mut args = command.split_whitespace().map(str::to_owned);
        assert_eq!(args.next().as_deref(), Some("/usr/bin/tidings"), "{name}");
        lines.push(Line {
            whence: format!("systemd {name}"),
            args: args.collect(),
            environment,
            config: match name.as_str() {
                "tidings.service" | "tidings-erase.service" => "ops/bench.toml",
                _ => "ops/systemd/tidings.toml",
            },
        });
    }
    lines
}

/// The one that the image runs by itself.
fn of_image() -> Line {
    let text = read("ops/Dockerfile");
    let last = |instruction: &str| text.lines().rfind(|line| line.starts_with(instruction)).unwrap().to_owned();
    assert_eq!(last("ENTRYPOINT"), r#"ENTRYPOINT ["tidings"]"#);
    let args = serde_json::from_str(last("CMD").trim_start_matches("CMD ")).unwrap();
    let environment = last("ENV");
    let (name, value) = environment.trim_start_matches("ENV ").split_once('=').unwrap();
    Line {
        whence: "Dockerfile".to_owned(),
        args,
        environment: vec![(name.to_owned(), value.to_owned())],
        config: "ops/bench.toml",
    }
}

#[test]
fn every_command_line_is_accepted_by_the_program() {
    let lines: Vec<Line> =
        of_compose().into_iter().chain(of_kubernetes()).chain(of_systemd()).chain([of_image()]).collect();
    let roles = |role: &str| lines.iter().filter(|line| line.args[0] == role).count();
    assert!(roles("edge") >= 5 && roles("dataflow") >= 4 && roles("project") >= 4, "{lines:?}");
    let refused: Vec<String> =
        lines.iter().filter_map(|line| check(line).err().map(|error| format!("{}: {error}", line.whence))).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn the_check_finds_what_is_wrong() {
    let line = |environment: (&str, &str)| Line {
        whence: String::new(),
        args: ["edge", "--config", "/etc/tidings/tidings.toml"].map(str::to_owned).to_vec(),
        environment: vec![(environment.0.to_owned(), environment.1.to_owned())],
        config: "ops/compose/tidings.toml",
    };
    assert_eq!(check(&line(("TIDINGS_EDGE__DRAIN_DELAY_MS", "1"))), Ok(()));
    for (name, value) in [
        ("TIDINGS_EDGE__NO_SUCH_SETTING", "1"),
        ("TIDINGS_EDGE__DRAIN_DELAY_MS", "soon"),
        ("TIDINGS_NODE__LOG_LEVEL", "a=b=c"),
        ("TIDINGS_KAFKA__SECURITY_PROTOCOL", "none"),
    ] {
        assert!(check(&line((name, value))).is_err(), "{name}={value}");
    }
    let mut unknown = line(("HOME", "/"));
    unknown.args.push("--no-such-flag".to_owned());
    assert!(check(&unknown).is_err());
    let erase = |arguments: &str| Line {
        whence: String::new(),
        args: arguments.split(' ').map(str::to_owned).collect(),
        environment: Vec::new(),
        config: "ops/bench.toml",
    };
    assert_eq!(check(&erase("erase --deleted --data /nowhere")), Ok(()));
    assert!(check(&erase("erase --data /nowhere")).is_err());
    assert!(check(&erase("erase --deleted --data /nowhere --set node.no_such_setting=1")).is_err());
}

#[test]
fn no_password_is_in_a_file_of_the_checkout() {
    for (folder, ending) in [
        ("ops/compose", ".yaml"),
        ("ops/compose", ".toml"),
        ("ops/kubernetes/base", ".yaml"),
        ("ops/systemd", ".service"),
    ] {
        for name in names(folder, ending) {
            let path = format!("{folder}/{name}");
            for line in read(&path).lines().filter(|line| !line.trim_start().starts_with('#')) {
                let lower = line.to_lowercase();
                let names_a_file = ["password_file", "password__file"].iter().any(|word| lower.contains(word));
                assert!(!lower.contains("password") || names_a_file, "{path}: {line}");
            }
        }
    }
}
