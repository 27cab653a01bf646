//! The measured matrix: plain punching between fourteen kinds, both sides at once.

use crate::town::{Town, ms};

const KINDS: [&str; 14] = [
    "public",
    "firewall",
    "full-cone",
    "restricted",
    "port-restricted",
    "linux-masq",
    "masq,in=reset",
    "masq,in=admin",
    "masq,in=open",
    "masq,syn=strict",
    "symmetric-seq",
    "linux-random",
    "masq@linux-random",
    "masq,udp=block",
];

/// The measured matrix: U where UDP punches without prediction, S where TCP simultaneous open
/// without a listener and without prediction does. One row for each kind, from itself on.
const MEASURED: [&str; 14] = [
    "US US US US US US US US US US U. U. U. .S",
    "US US US US US US US US US .. .. .. .S",
    "US US US US US US US US U. U. U. .S",
    "US US US US US US US U. U. U. .S",
    "US US US US US US .. .. .. .S",
    "US US US US US .. .. .. .S",
    "US US US US .. .. .. .S",
    "US US US .. .. .. .S",
    "US US .. .. .. .S",
    "U. .. .. .. .S",
    ".. .. .. ..",
    ".. .. ..",
    ".. ..",
    ".S",
];

#[test]
fn the_measured_matrix_of_plain_punching_comes_out() {
    let mut wrong = Vec::new();
    for (row, (a, cells)) in KINDS.iter().zip(MEASURED).enumerate() {
        for (b, cell) in KINDS[row..].iter().zip(cells.split(' ')) {
            let udp = Town::named(a, b).udp_punch(ms(0), None).is_some();
            let ends = Town::named(a, b).simultaneous_open(ms(0), 200);
            let tcp = ends.iter().all(Option::is_some);
            let got: String = [(udp, 'U'), (tcp, 'S')]
                .map(|(works, letter)| if works { letter } else { '.' })
                .into_iter()
                .collect();
            if got != cell {
                wrong.push(format!("{a} × {b}: measured {cell}, here {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
