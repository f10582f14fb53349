//! Words for numbers.

/// A peripheral device type (SPC-5, table 150).
pub(super) fn device_type(code: u8) -> &'static str {
    match code {
        0x00 => "disk",
        0x01 => "tape",
        0x02 => "printer",
        0x03 => "processor",
        0x04 => "write-once disk",
        0x05 => "CD, DVD or BD drive",
        0x06 => "scanner",
        0x07 => "optical disk",
        0x08 => "medium changer",
        0x09 => "communications device",
        0x0c => "storage array controller",
        0x0d => "enclosure",
        0x0e => "simple disk",
        0x0f => "optical card reader",
        0x11 => "object storage",
        0x12 => "automation interface of a drive",
        0x14 => "zoned disk",
        0x1e => "well known logical unit",
        _ => "device of an unknown type",
    }
}

/// Bytes in the largest unit that shows at least one of it, powers of 1024.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(count).saturating_mul(10);
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while tenths >= 10240
        && let Some(next) = units.next()
    {
        tenths /= 1024;
        unit = Some(next);
    }
    let (whole, tenth) = (tenths / 10, tenths % 10);
    let unit = unit.copied().unwrap_or_default();
    if tenth == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}
