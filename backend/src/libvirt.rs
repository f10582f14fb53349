//! Devices in libvirt's form, `<hostdev mode='subsystem' type='scsi'>` (libvirt, "Domain XML format", host device assignment), to and
//! from ours.
//!
//! | libvirt | here |
//! |---|---|
//! | `<adapter name='scsi_host8'/>`, `<address bus='0' target='2' unit='1'/>` in `<source>` | pdev 8:0:2:1 |
//! | `<address type='drive' controller='0' bus='0' target='0' unit='1'/>` | vdev 0:0:0:1 |
//! | `<readonly/>`, `<shareable/>` | ro, shared |
//!
//! Attributes that say how QEMU or libvirt goes about it (`managed`, `sgio`, `rawio`) have no meaning here.

use pvscsi_sg::Hctl;
use roxmltree::{Document, Node};

use crate::options::Options;
use crate::pdev::{PDev, PDevOpenError};
use crate::toolstack::auto;
use crate::toolstack::spec::{Conflict, DeviceSpec, agree};
use crate::vdev::{VDev, VDevError, Wanted};

#[cfg(test)]
mod tests;

/// Why XML does not become devices.
#[derive(Debug, thiserror::Error)]
pub enum FromError {
    /// Not even XML.
    #[error("this is no XML: {0}")]
    Xml(String),
    /// Something else's XML.
    #[error("this is a <{0}>, not a <domain>, its <devices>, or a <hostdev>")]
    Root(String),
    /// Nothing in it.
    #[error("there is no <hostdev mode='subsystem' type='scsi'>")]
    Nothing,
    /// A device that cannot be expressed.
    #[error("line {line}: <hostdev>: {why}")]
    Device {
        /// Where its element, or the part at fault, begins.
        line: u32,
        /// What is wrong with it.
        why: ElementError,
    },
}

/// What is wrong with a `<hostdev>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// iSCSI, vhost.
    #[error("protocol {0:?} is not pass-through of a SCSI device of this host, and vscsi has no form for it")]
    Protocol(String),
    /// A part that has to be there.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// No address in the guest: libvirt would choose one.
    #[error(
        "there is no <address type='drive' …/>, so libvirt chooses where the guest sees the device: \
         virsh dumpxml shows what it has chosen"
    )]
    NoAddress,
    /// One of another kind.
    #[error("the guest's address is of type {0:?}; only drive has a form in vscsi")]
    AddressType(String),
    /// A name of an adapter that says no host number.
    #[error("adapter {0:?} is not of the form scsi_hostN")]
    Adapter(String),
    /// No numbers.
    #[error("{0:?} is no address of a SCSI device, host:channel:target:lun")]
    Source(String),
    /// No numbers, or too large.
    #[error("the guest's address {text:?} {why}")]
    Guest {
        /// As it would be written here.
        text: String,
        /// What is wrong with it.
        why: VDevError,
    },
    /// Something that vscsi does not have.
    #[error("<{0}> has no form in vscsi; remove it if the guest can do without")]
    Unknown(String),
    /// Not beside another.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

/// Why a device has no form in libvirt's XML.
#[derive(Debug, thiserror::Error)]
pub enum ToError {
    /// An option that only we have.
    #[error("{0}: libvirt has no form for {1}")]
    Option(String, &'static str),
    /// An emulated disk.
    #[error("{0}: libvirt's <hostdev> is a SCSI device of this host, not an emulated disk")]
    Emulated(String),
    /// Too many of them.
    #[error("auto finds no free host number: all below {hosts} are in use", hosts = auto::HOSTS)]
    NoHost,
    /// A device that is not here.
    #[error(
        "{name}: libvirt wants the device's address, which can be found only on the host that has it: {why}"
    )]
    Unknown {
        /// As given.
        name: String,
        /// Why it was not found.
        why: PDevOpenError,
    },
}

/// The SCSI devices of a `<domain>`, of its `<devices>`, or of elements `<hostdev>` alone. All other devices are passed over.
///
/// # Errors
///
/// [`FromError`] says where and what.
pub fn from_xml(text: &str) -> Result<Vec<DeviceSpec>, FromError> {
    // Several elements are no document.
    let several = format!("<devices>{text}</devices>");
    let parsed = Document::parse(text);
    let document = parsed.or_else(|error| Document::parse(&several).map_err(|_| error));
    let document =
        document.map_err(|error| FromError::Xml(error.to_string().replace(char::is_control, " ")))?;
    let root = document.root_element();
    let hostdevs: Vec<Node<'_, '_>> = match root.tag_name().name() {
        "hostdev" => vec![root],
        "devices" => children(root, "hostdev").collect(),
        "domain" => children(root, "devices").flat_map(|devices| children(devices, "hostdev")).collect(),
        other => return Err(FromError::Root(other.into())),
    };
    let is_scsi = |node: &Node<'_, '_>| {
        let mode = node.attribute("mode").is_none_or(|mode| mode == "subsystem");
        mode && matches!(node.attribute("type"), Some("scsi" | "scsi_host"))
    };
    let hostdevs: Vec<Node<'_, '_>> = hostdevs.into_iter().filter(is_scsi).collect();
    if hostdevs.is_empty() {
        return Err(FromError::Nothing);
    }
    let wrong = |node: Node<'_, '_>, why| {
        let line = document.text_pos_at(node.range().start).row;
        FromError::Device { line, why }
    };
    let devices = hostdevs.iter().map(|node| device(*node).map_err(|(node, why)| wrong(node, why)));
    let devices: Vec<DeviceSpec> = devices.collect::<Result<_, _>>()?;
    match (agree(&devices), root) {
        (Ok(()), _) => Ok(devices),
        (Err((index, why)), root) => Err(wrong(hostdevs.get(index).copied().unwrap_or(root), why.into())),
    }
}

type Fault<'a, 'input> = (Node<'a, 'input>, ElementError);

fn device<'a, 'input>(hostdev: Node<'a, 'input>) -> Result<DeviceSpec, Fault<'a, 'input>> {
    let missing = |node, what| (node, ElementError::Missing(what));
    let source = children(hostdev, "source").next().ok_or(missing(hostdev, "<source>"))?;
    match source.attribute("protocol") {
        None | Some("adapter") => {}
        Some(other) => return Err((source, ElementError::Protocol(other.into()))),
    }
    let known = ["source", "address", "readonly", "shareable", "alias"];
    let unknown =
        hostdev.children().find(|node| node.is_element() && !known.contains(&node.tag_name().name()));
    if let Some(unknown) = unknown {
        return Err((unknown, ElementError::Unknown(unknown.tag_name().name().into())));
    }
    let pdev = physical(source)?;
    let vdev = children(hostdev, "address").next().ok_or((hostdev, ElementError::NoAddress))?;
    let vdev = Wanted::At(virtual_address(vdev).map_err(|why| (vdev, why))?);
    let options = Options {
        read_only: children(hostdev, "readonly").next().is_some(),
        shared: children(hostdev, "shareable").next().is_some(),
        ..Options::default()
    };
    Ok(DeviceSpec { name: pdev.to_string(), pdev: PDev::Address(pdev), vdev, backend: None, options })
}

/// The device's address on the host.
fn physical<'a, 'input>(source: Node<'a, 'input>) -> Result<Hctl, Fault<'a, 'input>> {
    let missing = |node, what| (node, ElementError::Missing(what));
    let adapter = children(source, "adapter").next().ok_or(missing(source, "<adapter> in <source>"))?;
    let name = adapter.attribute("name").ok_or(missing(adapter, "name of the <adapter>"))?;
    let host = name.strip_prefix("scsi_host").ok_or((adapter, ElementError::Adapter(name.into())))?;
    let address = children(source, "address").next().ok_or(missing(source, "<address> in <source>"))?;
    let number = |name| {
        address.attribute(name).ok_or(missing(address, "bus, target or unit of the source's <address>"))
    };
    let text = format!("{host}:{}:{}:{}", number("bus")?, number("target")?, number("unit")?);
    text.parse().map_err(|_| (address, ElementError::Source(text)))
}

/// The address in the guest, of which libvirt leaves out what is 0.
fn virtual_address(address: Node<'_, '_>) -> Result<VDev, ElementError> {
    match address.attribute("type") {
        Some("drive") => {}
        other => return Err(ElementError::AddressType(other.unwrap_or_default().into())),
    }
    let [controller, bus, target, unit] =
        ["controller", "bus", "target", "unit"].map(|name| address.attribute(name).unwrap_or("0"));
    let text = format!("{controller}:{bus}:{target}:{unit}");
    text.parse().map_err(|why| ElementError::Guest { text, why })
}

fn children<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

/// An element `<hostdev>` for each device, for `<devices>` of a domain. Devices that are named otherwise than by their address are
/// looked for on this host; those that are `auto` have the address that they would get in a new guest.
///
/// # Errors
///
/// [`ToError`] names the device.
pub fn to_xml(devices: &[DeviceSpec]) -> Result<String, ToError> {
    let mut xml = String::new();
    let vdevs = auto::in_a_new_guest(devices).ok_or(ToError::NoHost)?;
    for (DeviceSpec { name, pdev, vdev: _, backend, options }, vdev) in devices.iter().zip(vdevs) {
        // A block size is an emulated disk's, which has no form anyway.
        let Options { feature_host, read_only, shared, allow, reservations, block_size: _ } = *options;
        if feature_host {
            return Err(ToError::Option(name.clone(), "feature-host"));
        }
        if !allow.is_empty() {
            return Err(ToError::Option(name.clone(), "allow="));
        }
        if reservations.is_some() {
            return Err(ToError::Option(name.clone(), "reservations="));
        }
        if backend.is_some() {
            return Err(ToError::Option(name.clone(), "backend=, a device of another domain"));
        }
        let found = pdev.resolve().map_err(|why| ToError::Unknown { name: name.clone(), why })?;
        let PDev::Address(Hctl { host, channel, target, lun }) = found else {
            return Err(ToError::Emulated(name.clone()));
        };
        let flags = [(read_only, "  <readonly/>\n"), (shared, "  <shareable/>\n")];
        let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, element)| *element).collect();
        let (controller, bus, id, unit) = (vdev.host, vdev.nexus.channel, vdev.nexus.id, vdev.nexus.lun);
        // Nothing but numbers, so that nothing has to be escaped.
        xml.push_str(&format!(
            "<hostdev mode='subsystem' type='scsi'>\n\
             \x20 <source>\n\
             \x20   <adapter name='scsi_host{host}'/>\n\
             \x20   <address bus='{channel}' target='{target}' unit='{lun}'/>\n\
             \x20 </source>\n\
             {flags}\
             \x20 <address type='drive' controller='{controller}' bus='{bus}' target='{id}' unit='{unit}'/>\n\
             </hostdev>\n"
        ));
    }
    Ok(xml)
}

/// The line for a configuration file of xl.
#[must_use]
pub fn to_config(devices: &[DeviceSpec]) -> String {
    let quoted = |text: String| format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""));
    let items: Vec<String> = devices.iter().map(|device| quoted(device.to_string())).collect();
    format!("vscsi = [ {} ]\n", items.join(", "))
}
