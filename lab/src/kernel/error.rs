//! What can go wrong with a laboratory, and what to do about it.

use std::io;

use serde::{Deserialize, Serialize};

/// Why a lab could not be started or used.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Error {
    /// This machine forbids the namespaces a lab is made of.
    #[error("this machine does not let an ordinary user make a laboratory ({detail}): {advice}")]
    Forbidden {
        /// The system call and its error.
        detail: String,
        /// Which switch forbids it and the way out.
        advice: String,
    },
    /// A program is missing.
    #[error("`{tool}` is not installed: it is in the Debian and Ubuntu package `{package}`")]
    MissingTool {
        /// The program.
        tool: String,
        /// The package it is in.
        package: String,
    },
    /// A program that sets up the network failed.
    #[error("`{tool}` failed in namespace `{space}`: {detail}")]
    Tool {
        /// The program.
        tool: String,
        /// Where it ran.
        space: String,
        /// What it said.
        detail: String,
    },
    /// The topology cannot be.
    #[error("{detail}")]
    Topology {
        /// Which part of it, and why.
        detail: String,
    },
    /// Netfilter cannot do what a preset asks for.
    #[error("netfilter cannot do `{axis}` of `{preset}`: use the lab's own NAT (`--nat user`)")]
    NotInNetfilter {
        /// The preset.
        preset: String,
        /// The axis and its value.
        axis: String,
    },
    /// No host has that name.
    #[error("the lab has no host or box named `{name}`; it has {known}")]
    UnknownSpace {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// A system call failed.
    #[error("{action}: {detail}")]
    System {
        /// What was tried.
        action: String,
        /// What the kernel said.
        detail: String,
    },
    /// The supervisor ended.
    #[error("the laboratory's supervisor is gone: {detail}")]
    Gone {
        /// How that was noticed.
        detail: String,
    },
}

impl Error {
    /// A failed system call.
    pub(super) fn system(action: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let error: io::Error = error.into();
        Self::System { action: action.into(), detail: error.to_string() }
    }

    /// An impossible topology.
    pub(super) fn topology(detail: impl Into<String>) -> Self {
        Self::Topology { detail: detail.into() }
    }
}

/// `Result` of everything a lab does.
pub type Result<T, E = Error> = std::result::Result<T, E>;
