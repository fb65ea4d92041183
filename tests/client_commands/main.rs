//! The client's command lines as they are really read: by the kubelet, by `dash` and `bash`, by `jfs-agent`, by JuiceFS.
#![cfg(feature = "engine")]

#[cfg(test)]
mod agent;
#[cfg(test)]
mod kubelet;
#[cfg(test)]
mod mount;
#[cfg(test)]
mod script;
#[cfg(test)]
mod shells;
#[cfg(test)]
mod word;
