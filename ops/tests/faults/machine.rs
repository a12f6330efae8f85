//! What this machine allows.

use std::{env, process::Command, sync::Arc};

use crate::{faults::Need, fleet::Place, network::Network};

/// Whether there is each of what faults need, and else why not.
pub(crate) struct Machine {
    pub(crate) network: Result<Arc<Network>, String>,
    pub(crate) mounts: Result<(), String>,
    pub(crate) compiler: Result<(), String>,
}

impl Machine {
    /// Tries all.
    pub(crate) fn new(seed: u64) -> Self {
        let is_apart = env::var_os("TIDINGS_FAULTS_OWN_NETWORK").is_some();
        let mounts = if is_apart {
            Ok(())
        } else {
            Err("this run has no namespaces of its own (hint: ./ops/faults, as root or where users may have them)"
                .to_owned())
        };
        let network = mounts.clone().and_then(|()| {
            Network::new(Place::COUNT, seed).map(Arc::new).map_err(|error| format!("no hosts can be made: {error:#}"))
        });
        let compiler = Command::new("cc").arg("--version").output();
        let compiler = compiler.map(|_| ()).map_err(|error| format!("there is no C compiler, cc: {error}"));
        Self { network, mounts, compiler }
    }

    /// Why a fault with this need cannot be done here.
    pub(crate) fn lacks(&self, need: Need) -> Option<&str> {
        let missing = match need {
            Need::Network => self.network.as_ref().err(),
            Need::Mounts => self.mounts.as_ref().err(),
            Need::Compiler => self.compiler.as_ref().err(),
        };
        missing.map(String::as_str)
    }
}
