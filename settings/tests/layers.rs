//! The layers as a caller sees them: defaults, file, environment, flags; and what is refused.

use ntcp_settings::{Config, Error, Layers, LogLevel};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("ntcp-settings-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn layers(environment: &[(&str, &str)]) -> Layers {
    Layers::new(environment.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

fn refusal(toml: &str) -> String {
    Config::from_toml(toml).expect_err(toml).to_string()
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = layers(&[]).load().unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.node.deadline, Duration::from_secs(10));
    assert_eq!(config.node.keepalive, Duration::from_secs(15));
    let text = |addresses: &[std::net::SocketAddr]| -> Vec<_> {
        addresses.iter().map(ToString::to_string).collect()
    };
    assert_eq!(text(&config.stun.listen), ["0.0.0.0:3478", "[::]:3478"]);
    assert_eq!(text(&config.hole_punch.listen), ["0.0.0.0:6060", "[::]:6060"]);
    assert_eq!(text(&config.tcp.listen), ["0.0.0.0:9999", "[::]:9999"]);
    assert!(config.stun_servers().is_empty() && config.tcp_broker().is_none());
}

#[test]
fn each_layer_overrides_the_one_before_key_by_key() {
    let folder = Folder::new("override");
    let path = folder.write(
        "p2pNetwork.toml",
        "[node]\nname = 'file'\ndeadline = '5 s'\n[stun]\nservers = ['a:1', 'b', '[::1]:2']",
    );
    let config = layers(&[
        ("NTCP_NODE__NAME", "007"),
        ("NTCP_STUN__SERVERS", "c, d:4"),
        ("NTCP_HOLE_PUNCH__PORT", "7000"),
        ("NTCP_NODE__DEADLINE", ""),
        ("NTCP_SEED", "42"),
        ("HOME", "/nowhere"),
    ])
    .file(&path)
    .load()
    .unwrap();
    assert_eq!(config.node.name.as_ref().unwrap().as_str(), "007");
    assert_eq!(config.node.deadline, Duration::from_secs(5));
    assert_eq!(config.node.keepalive, Duration::from_secs(15));
    assert_eq!(config.hole_punch.port, 7000);
    let servers: Vec<_> = config.stun.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["c:3478", "d:4"]);
    assert_eq!(config.file(), Some(path.as_path()));
}

#[test]
fn every_key_can_be_set_in_the_file_and_in_the_environment() {
    let file = r#"
        node = { name = "n", deadline = "1 s", keepalive = "2 s" }
        [stun]
        servers = ["s:1"]
        listen = ["192.0.2.1:3478"]
        alternate = ["192.0.2.2:3479"]
        probes = false
        [hole_punch]
        broker = "b"
        port = 5
        listen = ["192.0.2.1:1"]
        [tcp]
        broker = "t:2"
        listen = ["192.0.2.1:2"]
        [log]
        level = "debug"
        format = "json"
        [metrics]
        listen = "127.0.0.1:9100"
        [service]
        user = "ntcp"
        drain = "7 s"
    "#;
    let from_file = Config::from_toml(file).unwrap();
    assert_eq!(from_file.log.level, Some(LogLevel::Debug));
    let from_environment = layers(&[
        ("NTCP_NODE__NAME", "n"),
        ("NTCP_NODE__DEADLINE", "1 s"),
        ("NTCP_NODE__KEEPALIVE", "2 s"),
        ("NTCP_STUN__SERVERS", "s:1"),
        ("NTCP_STUN__LISTEN", "192.0.2.1:3478"),
        ("NTCP_STUN__ALTERNATE", "192.0.2.2:3479"),
        ("NTCP_STUN__PROBES", "false"),
        ("NTCP_HOLE_PUNCH__BROKER", "b"),
        ("NTCP_HOLE_PUNCH__PORT", "5"),
        ("NTCP_HOLE_PUNCH__LISTEN", "192.0.2.1:1"),
        ("NTCP_TCP__BROKER", "t:2"),
        ("NTCP_TCP__LISTEN", "192.0.2.1:2"),
        ("NTCP_LOG__LEVEL", "debug"),
        ("NTCP_LOG__FORMAT", "json"),
        ("NTCP_METRICS__LISTEN", "127.0.0.1:9100"),
        ("NTCP_SERVICE__USER", "ntcp"),
        ("NTCP_SERVICE__DRAIN", "7 s"),
    ]);
    assert_eq!(from_environment.load().unwrap(), from_file);
}

#[test]
fn a_file_is_looked_for_where_the_environment_says_then_in_the_users_folder() {
    let folder = Folder::new("search");
    let users = folder.write("config/ntcp/p2pNetwork.toml", "[node]\nname = 'user'");
    let named = folder.write("other.toml", "[node]\nname = 'named'");
    let config_home = folder.0.join("config").display().to_string();
    let home = folder.0.display().to_string();
    let path = |path: &Path| path.display().to_string();

    let found = layers(&[("XDG_CONFIG_HOME", &config_home)]).find_file().load().unwrap();
    assert_eq!(found.file(), Some(users.as_path()));
    let both = [("XDG_CONFIG_HOME", config_home.as_str()), ("NTCP_CONFIG", &path(&named))];
    assert_eq!(layers(&both).find_file().load().unwrap().file(), Some(named.as_path()));
    std::fs::rename(folder.0.join("config"), folder.0.join(".config")).unwrap();
    assert!(layers(&[("HOME", &home)]).find_file().load().unwrap().file().is_some());

    let missing = path(&folder.0.join("missing.toml"));
    let error = layers(&[("NTCP_CONFIG", &missing)]).find_file().load().unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }));
    assert!(error.to_string().starts_with(&missing), "{error}");
}

#[test]
fn the_broker_stands_in_for_what_is_not_configured() {
    let config = Config::from_toml("hole_punch.broker = '[2001:db8::1]:7'").unwrap();
    assert_eq!(config.stun_servers()[0].to_string(), "[2001:db8::1]:3478");
    assert_eq!(config.tcp_broker().unwrap().to_string(), "[2001:db8::1]:9999");
    let config = Config::from_toml("stun.servers = ['s']\ntcp.broker = 't'").unwrap();
    assert_eq!(config.stun_servers()[0].to_string(), "s:3478");
    assert_eq!(config.tcp_broker().unwrap().to_string(), "t:9999");
}

#[test]
fn what_is_unknown_is_refused_with_the_nearest_known_word() {
    for (toml, expected) in [
        ("[stunn]\n", "unknown section [stunn]; did you mean stun?"),
        ("[holePunch]\nport = 1", "unknown section [holePunch]; did you mean hole_punch?"),
        ("[database]\n", "unknown section [database]; the sections are node, stun, hole_punch,"),
        (
            "[spoof]\nenabled = 'yes'",
            "[spoof] enabled = \"yes\": not a switch; write true or false",
        ),
        ("[spoof]\nsessions = 0", "[spoof] sessions = 0: write a whole number from 1 to 16384"),
        ("[relay]\nserver = 'x'", "section [relay] is not available in this version; remove it"),
        ("[node]\nnmae = 'x'", "unknown key [node] nmae = \"x\"; did you mean name?"),
        ("[node]\nservers = ['x']", "servers = [\"x\"]; it belongs to section [stun]"),
        ("[log]\nfile = 'x'", "unknown key [log] file = \"x\"; the keys are level, format"),
        ("deadline = '1 s'", "deadline = \"1 s\" stands outside any section; move it below [node]"),
        ("stun = 5", "stun = 5 stands outside any section; remove it; the sections are node,"),
    ] {
        let message = refusal(toml);
        assert!(message.contains(expected), "{toml:?} gave {message:?}");
    }
}

#[test]
fn a_value_that_cannot_be_names_the_key_the_value_and_the_fix() {
    for (toml, expected) in [
        ("node.name = 'a b'", "[node] name = \"a b\": a name cannot contain ' '; write letters,"),
        (
            "node.deadline = 10",
            "[node] deadline = 10: the unit is missing; write for example \"10 s\"",
        ),
        ("node.deadline = '0 s'", "out of range; write a duration from 1s to 10m"),
        ("node.keepalive = 'soon'", "not a duration; write a number and a unit, for example"),
        (
            "stun.servers = ['ok', 'a:b']",
            "servers = [\"ok\", \"a:b\"]: in \"a:b\": \"b\" is not a port",
        ),
        ("stun.servers = [5]", "[stun] servers = [5]"),
        ("stun.servers = true", "servers = true: invalid type: boolean `true`, expected a list of"),
        ("hole_punch.port = 65536", "port = 65536: not a port; write a number from 0 to 65535"),
        ("hole_punch.port = true", "port = true: invalid type: boolean `true`, expected a number"),
        ("hole_punch.broker = 'udp://b'", "broker = \"udp://b\": \"//b\" is not a port"),
        (
            "tcp.listen = ['9999']",
            "\"9999\" is not IP:port; write an IP address of this machine and",
        ),
        ("log.level = 'loud'", "[log] level = \"loud\": not a log level; write off, error, warn"),
        ("log.format = 'xml'", "[log] format = \"xml\": not a log format; write text or json"),
        (
            "metrics.listen = '9100'",
            "listen = \"9100\": \"9100\" is not IP:port; write an IP address",
        ),
        ("metrics.listen = ['127.0.0.1:1']", "[metrics] listen = [\"127.0.0.1:1\"]: invalid type"),
        ("service.user = 'a b'", "[service] user = \"a b\": not a user; write a name such as"),
        ("service.drain = '2 min'", "out of range; write a duration from 0s to 1m"),
        ("log.level = { a = 1 }", "[log] level = { … }: invalid type: map, expected a log level"),
    ] {
        let message = refusal(toml);
        assert!(message.contains(expected), "{toml:?} gave {message:?}");
    }
}

#[test]
fn what_cannot_work_together_is_refused() {
    for (toml, expected) in [
        (
            "stun.listen = ['192.0.2.1:1', '192.0.2.2:2']",
            "[stun] listen = \"192.0.2.1:1\", \"192.0.2.2:2\": has two addresses of one family; keep",
        ),
        (
            "stun.mode = 'forged'",
            "[stun] mode, alternate, partner_key = \"forged\": this mode needs an alternate",
        ),
        ("stun.mode = 'dual'", "add [stun] alternate"),
        (
            "stun = { mode = 'basic', listen = ['192.0.2.1:1'], alternate = ['192.0.2.2:2'] }",
            "a basic server has no alternate address; remove one of them",
        ),
        (
            "stun = { mode = 'partner', listen = ['192.0.2.1:1'], alternate = ['192.0.2.2:2'] }",
            "two partners know each other by a secret; name a file with it in [stun] partner_key",
        ),
        ("stun.partner_key = 'f'", "there is no partner; set mode = \"partner\", or remove"),
        ("stun.tls_listen = ['192.0.2.1:5349']", "name its file in [stun] tls_certificate"),
        (
            "stun = { tls_listen = ['192.0.2.1:5349'], tls_certificate = 'f' }",
            "name its file in [stun] tls_key",
        ),
        ("stun.tls_key = 'f'", "nobody is served over TLS; add [stun] tls_listen"),
        ("stun.access = 'long-term'", "nobody would be let in; name a file with users in [stun]"),
        (
            "stun = { access = 'long-term', credentials = 'f' }",
            "long-term credentials belong to a realm; add [stun] realm",
        ),
        (
            "stun = { access = 'short-term', credentials = 'f', realm = 'r' }",
            "short-term credentials have no realm; remove [stun] realm",
        ),
        ("stun.realm = 'r'", "nobody is asked for credentials; set access, or remove realm and"),
        ("stun.redirect = ['192.0.2.1:1', '192.0.2.2:2']", "has two addresses of one family"),
        ("stun.alternate = ['192.0.2.2:3479']", "must know its addresses; write concrete IP"),
        (
            "stun = { listen = ['192.0.2.1:1'], alternate = ['[2001:db8::1]:2'] }",
            "has no primary address of its family beside it; add one to [stun] listen",
        ),
        (
            "stun = { listen = ['192.0.2.1:1'], alternate = ['192.0.2.1:2'] }",
            "RFC 5780 needs two different IP addresses; write the machine's second address",
        ),
        (
            "stun = { listen = ['192.0.2.1:1'], alternate = ['192.0.2.2:1'] }",
            "RFC 5780 needs two different ports; write another port",
        ),
        (
            "[hole_punch]\nlisten = ['127.0.0.1:3478']",
            "[stun] listen, [hole_punch] listen = \"0.0.0.0:3478\": two servers would share one port",
        ),
        (
            "tcp.listen = ['0.0.0.0:9999']\nmetrics.listen = '127.0.0.1:9999'",
            "[tcp] listen, [metrics] listen = \"0.0.0.0:9999\": two servers would share one port",
        ),
        (
            "[tcp]\nlisten = ['127.0.0.1:3478']",
            "[stun] listen, [tcp] listen = \"0.0.0.0:3478\": two servers would share one port",
        ),
        (
            "hole_punch.listen = ['127.0.0.1:6060', '[::]:6060', '0.0.0.0:6060']",
            "[hole_punch] listen = \"127.0.0.1:6060\", \"0.0.0.0:6060\": both cannot be listened at",
        ),
        (
            "tcp.listen = ['127.0.0.1:9', '127.0.0.1:9']",
            "[tcp] listen = \"127.0.0.1:9\", \"127.0.0.1:9\": both cannot be listened at",
        ),
    ] {
        let message = refusal(toml);
        assert!(message.contains(expected), "{toml:?} gave {message:?}");
    }
}

#[test]
fn flags_set_fields_and_are_checked_like_the_rest() {
    let mut config = Config::default();
    config.stun.listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    config.hole_punch.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.check().unwrap();
    config.stun.alternate = vec!["127.0.0.1:3479".parse().unwrap()];
    let message = config.check().unwrap_err().to_string();
    assert!(message.starts_with("configuration: [stun] listen, alternate = \"127.0.0.1:0\""));
}

#[test]
fn an_error_names_the_file_or_the_variable_it_comes_from() {
    let folder = Folder::new("origin");
    let path = folder.write("p2pNetwork.toml", "[node]\nname = 'ok'\n[tcp]\nlisten = [\"x\"]");
    let from_file = layers(&[]).file(&path).load().unwrap_err().to_string();
    assert!(from_file.starts_with(&format!("{}: [tcp] listen", path.display())), "{from_file}");

    let tcp = [("NTCP_TCP__LISTEN", "127.0.0.1:1"), ("NTCP_NODE__NAME", "a/b")];
    let from_variable = layers(&tcp).file(&path).load().unwrap_err().to_string();
    assert!(
        from_variable.starts_with("environment variable NTCP_NODE__NAME: [node] name = \"a/b\":"),
        "{from_variable}"
    );
    for (variable, expected) in [
        ("NTCP_NODE__NMAE", "environment variable NTCP_NODE__NMAE: unknown key [node] nmae"),
        ("NTCP_NODES__NAME", "environment variable NTCP_NODES__NAME: unknown section [nodes]"),
        ("NTCP_NODE_NAME", "variable NTCP_NODE_NAME means nothing; did you mean NTCP_NODE__NAME?"),
        ("NTCP_RELAY__ALLOW", "NTCP_RELAY__ALLOW: section [relay] is not available"),
        ("NTCP_SPOOF__ENABLED", "NTCP_SPOOF__ENABLED: [spoof] enabled = \"x\": not a switch"),
    ] {
        let message = layers(&[(variable, "x")]).load().unwrap_err().to_string();
        assert!(message.contains(expected), "{variable} gave {message:?}");
    }
}

#[test]
fn a_syntax_error_names_file_line_and_column() {
    let folder = Folder::new("syntax");
    let path = folder.write("p2pNetwork.toml", "[node]\nname = alice\n");
    let message = layers(&[]).file(&path).load().unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}: not valid TOML:", path.display())), "{message}");
    assert!(message.contains("line 2, column 8"), "{message}");
    let twice = refusal("[node]\nname = 'a'\nname = 'b'");
    assert!(twice.contains("duplicate key"), "{twice}");
}
