//! Linux's devices of the hypervisor: `/dev/xen/gntdev`, `/dev/xen/gntalloc`, `/dev/xen/evtchn`. All `unsafe` of this crate is here.
#![expect(unsafe_code, reason = "ioctl, mmap and raw pointers in copy segments")]

pub mod evtchn;
pub mod gntalloc;
pub mod gntdev;
pub mod grant_copy;
