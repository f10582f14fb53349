//! `/dev/xen/evtchn`: one event channel to another domain (Linux uapi/xen/evtchn.h).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::{DomId, EventChannel, Port};

/// `struct ioctl_evtchn_bind_interdomain`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BindInterdomain {
    /// The guest.
    pub remote_domain: u32,
    /// Its port.
    pub remote_port: u32,
}

/// `struct ioctl_evtchn_bind_unbound_port`.
#[cfg(feature = "frontend")]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BindUnboundPort {
    /// The only domain that may bind to the new port.
    pub remote_domain: u32,
}

/// `struct ioctl_evtchn_notify`, and `struct ioctl_evtchn_unbind`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalPort {
    /// Our port.
    pub port: u32,
}

/// `struct ioctl_evtchn_restrict_domid`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RestrictDomid {
    /// The only domain that this descriptor may bind to from now on.
    pub domid: u16,
}

/// `IOCTL_EVTCHN_BIND_INTERDOMAIN`: direction none, type 'E', number 1, 8 bytes.
pub const IOCTL_EVTCHN_BIND_INTERDOMAIN: u64 = 0x0008_4501;
/// `IOCTL_EVTCHN_BIND_UNBOUND_PORT`.
#[cfg(feature = "frontend")]
pub const IOCTL_EVTCHN_BIND_UNBOUND_PORT: u64 = 0x0004_4502;
/// `IOCTL_EVTCHN_NOTIFY`.
pub const IOCTL_EVTCHN_NOTIFY: u64 = 0x0004_4504;
/// `IOCTL_EVTCHN_RESTRICT_DOMID`.
pub const IOCTL_EVTCHN_RESTRICT_DOMID: u64 = 0x0002_4506;

mod ioctl {
    use super::{BindInterdomain, LocalPort, RestrictDomid};
    nix::ioctl_readwrite_bad!(bind_interdomain, super::IOCTL_EVTCHN_BIND_INTERDOMAIN, BindInterdomain);
    #[cfg(feature = "frontend")]
    nix::ioctl_readwrite_bad!(
        bind_unbound_port,
        super::IOCTL_EVTCHN_BIND_UNBOUND_PORT,
        super::BindUnboundPort
    );
    nix::ioctl_readwrite_bad!(notify, super::IOCTL_EVTCHN_NOTIFY, LocalPort);
    nix::ioctl_readwrite_bad!(restrict_domid, super::IOCTL_EVTCHN_RESTRICT_DOMID, RestrictDomid);
}

/// One port on its own `/dev/xen/evtchn`; a backend's can bind to no other guest. Closing it unbinds.
#[derive(Debug)]
pub struct Evtchn {
    device: File,
    port: Port,
}

impl Evtchn {
    /// Where the device is.
    pub const PATH: &str = "/dev/xen/evtchn";

    /// Binds to `remote_port` of the guest `domid`. The new port fires once at once: the hypervisor does that, so that no
    /// event from before is lost.
    ///
    /// # Errors
    ///
    /// What opening the device gives, or what the hypervisor says of the guest's port.
    pub fn bind(domid: DomId, remote_port: Port) -> io::Result<Self> {
        let device = Self::open()?;
        let mut restrict = RestrictDomid { domid: domid.0 };
        // SAFETY: the kernel reads `restrict`, which lives across the call.
        unsafe { ioctl::restrict_domid(device.as_raw_fd(), &raw mut restrict) }?;
        let mut bind = BindInterdomain { remote_domain: u32::from(domid.0), remote_port: remote_port.0 };
        // SAFETY: the kernel reads `bind`, which lives across the call.
        let port = unsafe { ioctl::bind_interdomain(device.as_raw_fd(), &raw mut bind) }?;
        Ok(Self::of(device, port))
    }

    /// Makes a port that only `domid` may bind to, as a frontend offers it to its backend.
    ///
    /// # Errors
    ///
    /// What opening the device gives, or that there is no port left.
    #[cfg(feature = "frontend")]
    pub fn offer(domid: DomId) -> io::Result<Self> {
        // Not restricted: Linux then offers no port, and to dom0 it restricts nobody.
        let device = Self::open()?;
        let mut bind = BindUnboundPort { remote_domain: u32::from(domid.0) };
        // SAFETY: the kernel reads `bind`, which lives across the call.
        let port = unsafe { ioctl::bind_unbound_port(device.as_raw_fd(), &raw mut bind) }?;
        Ok(Self::of(device, port))
    }

    fn open() -> io::Result<File> {
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(Self::PATH)
    }

    fn of(device: File, port: i32) -> Self {
        let Ok(port) = u32::try_from(port) else { unreachable!("evtchn gave port {port}") };
        Self { device, port: Port(port) }
    }
}

impl EventChannel for Evtchn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    fn unmask(&mut self) -> io::Result<Option<[u8; 4]>> {
        Ok(Some(self.port.0.to_ne_bytes()))
    }

    fn notify(&mut self) -> io::Result<()> {
        let mut notify = LocalPort { port: self.port.0 };
        // SAFETY: the kernel reads `notify`, which lives across the call.
        unsafe { ioctl::notify(self.device.as_raw_fd(), &raw mut notify) }?;
        Ok(())
    }

    fn port(&self) -> Port {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_xen_is_an_error_not_a_panic() {
        // Port 0 is never valid, so this fails with Xen as well.
        assert!(Evtchn::bind(DomId(1), Port(0)).is_err());
    }
}
