//! Every file in `conf/` loads, and the reference file knows every key with its default.

use ntcp_settings::{Config, Layers};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conf")
}

/// The reference file with its commented-out keys switched on.
fn reference_switched_on() -> String {
    let text = std::fs::read_to_string(folder().join("p2pNetwork.toml")).unwrap();
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let switch_on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if is_key(rest) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(switch_on).collect();
    // Keys that are refused without what they belong to, which is not the default.
    text.replace("access = \"open\"", "access = \"long-term\"")
        .replace("mode = \"auto\"", "mode = \"partner\"")
        .replace("alternate = []", "alternate = [\"192.0.2.2:3479\"]")
        .replace("tls_listen = []", "tls_listen = [\"192.0.2.1:5349\"]")
        .replace(
            "[\"0.0.0.0:3478\", \"[::]:3478\"]",
            "[\"192.0.2.1:3478\", \"[2001:db8::1]:3478\"]",
        )
}

#[test]
fn every_file_in_conf_loads() {
    let mut loaded = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            Layers::default().file(&path).load().unwrap_or_else(|error| panic!("{error}"));
            loaded += 1;
        }
    }
    assert!(loaded >= 3, "only {loaded} files in {}", folder().display());
}

#[test]
fn the_reference_file_changes_nothing_until_a_key_is_switched_on() {
    let text = std::fs::read_to_string(folder().join("p2pNetwork.toml")).unwrap();
    assert_eq!(Config::from_toml(&text).unwrap(), Config::default());
}

#[test]
fn the_reference_file_shows_every_key_with_its_default() {
    let mut shown = Config::from_toml(&reference_switched_on()).unwrap();
    let mut default = Config::default();
    default.stun.access = ntcp_settings::StunAccess::LongTerm;
    default.stun.mode = ntcp_settings::StunMode::Partner;
    // What they need beside them has no default that would do.
    default.stun.listen.clone_from(&shown.stun.listen);
    default.stun.alternate.clone_from(&shown.stun.alternate);
    default.stun.tls_listen.clone_from(&shown.stun.tls_listen);
    default.stun.dtls_listen.clone_from(&shown.stun.dtls_listen);
    assert!(shown.stun.partner_key.take().is_some());
    assert!(shown.stun.tls_certificate.take().is_some() && shown.stun.tls_key.take().is_some());
    assert!(shown.node.name.take().is_some());
    assert!(shown.hole_punch.broker.take().is_some());
    assert!(shown.tcp.broker.take().is_some());
    assert!(shown.log.level.take().is_some());
    assert!(shown.metrics.listen.take().is_some());
    assert!(shown.service.user.take().is_some());
    let security = &mut shown.security;
    let files = [&mut security.key, &mut security.known_brokers, &mut security.names];
    assert!(files.into_iter().all(|file| file.take().is_some()));
    assert!(shown.registry.url.take().is_some());
    let access = &mut shown.access;
    assert!(access.token.take().is_some());
    assert!(access.user.take().is_some() && access.password.take().is_some());
    let files = [&mut access.accounts, &mut access.token_keys];
    assert!(files.into_iter().all(|file| file.take().is_some()));
    // They need each other.
    let realm = shown.stun.realm.take();
    assert!(realm.is_some() && shown.stun.credentials.take().is_some());
    assert!(shown.stun.redirect_domain.take().is_some() && shown.stun.software.take().is_some());
    assert_eq!(shown, default);
    let keys = reference_switched_on();
    for (section, names) in ntcp_settings::sections() {
        let body = keys.split(&format!("\n[{section}]\n")).nth(1).expect(section);
        let body = body.split("\n[").next().unwrap();
        for name in names {
            let before = body.split(&format!("\n{name} = ")).next().unwrap();
            assert_ne!(before, body, "[{section}] {name} is missing");
            let comment = before.rsplit("\n\n").next().unwrap();
            assert!(comment.contains("Default: "), "[{section}] {name} states no default");
            let unit = comment.contains("Unit: ") || *name == "name" || *name == "level";
            assert!(unit, "[{section}] {name} states no unit");
        }
    }
}

#[test]
fn the_documentation_names_every_key() {
    let page = folder().join("../doc/configuration.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (section, names) in ntcp_settings::sections() {
        for name in names {
            let row = format!("| `[{section}] {name}` |");
            assert!(page.contains(&row), "doc/configuration.md lacks a row {row}");
        }
    }
}
