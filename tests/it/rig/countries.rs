//! A database of countries, as small as can be.

/// A database in MaxMind's format with one country for each of a few IPv4 networks (address, length of the
/// prefix, code): a tree of 24-bit records.
pub(crate) fn database(networks: &[([u8; 4], u8, &str)]) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::new();
    let mut nodes: Vec<[u32; 2]> = vec![[u32::MAX; 2]];
    let mut leaves = Vec::new();
    for (address, length, code) in networks {
        let offset = u32::try_from(data.len()).unwrap();
        data.extend(b"\xe1\x47country\xe1\x48iso_code\x42");
        data.extend(code.as_bytes());
        let bits = u32::from_be_bytes(*address);
        let mut node = 0;
        for depth in 0..*length {
            let bit = usize::try_from(bits >> (31 - depth) & 1).unwrap();
            if depth + 1 == *length {
                leaves.push((node, bit, offset));
            } else {
                if nodes[node][bit] == u32::MAX {
                    nodes.push([u32::MAX; 2]);
                    nodes[node][bit] = u32::try_from(nodes.len() - 1).unwrap();
                }
                node = usize::try_from(nodes[node][bit]).unwrap();
            }
        }
    }
    let count = u32::try_from(nodes.len()).unwrap();
    for (node, bit, offset) in leaves {
        nodes[node][bit] = count + 16 + offset;
    }
    let records = nodes.iter().flatten().map(|record| if *record == u32::MAX { count } else { *record });
    let mut file: Vec<u8> = records.flat_map(|record| record.to_be_bytes()[1..].to_vec()).collect();
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com\xe9\x49languages\x00\x04\x4bdescription\xe0");
    for (key, value) in [
        ("binary_format_major_version", &b"\xa1\x02"[..]),
        ("binary_format_minor_version", b"\xa1\x00"),
        ("build_epoch", b"\x04\x02\x65\x00\x00\x00"),
        ("database_type", b"\x44Test"),
        ("ip_version", b"\xa1\x04"),
        ("record_size", b"\xa1\x18"),
    ] {
        file.push(0x40 | u8::try_from(key.len().min(28)).unwrap());
        file.extend(key.as_bytes());
        file.extend(value);
    }
    file.extend(b"\x4anode_count\xc4");
    file.extend(count.to_be_bytes());
    file
}
