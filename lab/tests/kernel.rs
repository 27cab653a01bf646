//! Laboratories of real kernels.

use ntcp_lab::kernel::{Error, Lab};

#[test]
fn a_host_behind_a_nat_reaches_the_server_by_name() {
    let lab = Lab::builder().home("a", "linux-masq").home("b", "masq").start().unwrap();
    let pinged = lab.command("a", "ping").args(["-c1", "server.lab"]).output().unwrap();
    assert!(pinged.status.success(), "{pinged:?}");
}

#[test]
fn an_unknown_host_is_an_error_that_names_the_known_ones() {
    let lab = Lab::builder().home("a", "public").start().unwrap();
    let error = lab.command("z", "true").status().unwrap_err();
    assert!(matches!(&error, Error::UnknownSpace { name, .. } if name == "z"), "{error}");
    assert!(error.to_string().contains("server"), "{error}");
}
