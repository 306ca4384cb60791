//! The address that others are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use if_addrs::IfOperStatus;

/// The address that others are told when a server listens on `listen`: that, or one of this machine's when it listens on
/// every address.
pub(crate) fn advertised(listen: IpAddr) -> IpAddr {
    if !listen.is_unspecified() {
        return listen;
    }
    let own = if_addrs::get_if_addrs().unwrap_or_default();
    let usable = own
        .iter()
        .filter(|own| own.oper_status != IfOperStatus::Down && !own.is_loopback() && !is_bridge(&own.name));
    let addresses: Vec<IpAddr> = usable.map(|own| own.ip()).collect();
    chosen(&addresses).or_else(towards_outside).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// As RocketMQ chooses (`NetworkUtil.getLocalInetAddress`): version 4 before 6, a public one before a private one. Of
/// several public ones it takes the first that Java lists, of several private ones of version 4 the last, and Java lists the
/// system's in reverse.
fn chosen(addresses: &[IpAddr]) -> Option<IpAddr> {
    let of_version = |is_v4: bool| move |address: &&IpAddr| address.is_ipv4() == is_v4;
    let v4 = || addresses.iter().filter(of_version(true));
    let v6 = || addresses.iter().filter(of_version(false));
    let is_public = |address: &&IpAddr| !is_private(**address);
    let first = v4().rev().find(is_public).or_else(|| v4().next());
    first.or_else(|| v6().rev().find(is_public)).or_else(|| v6().next_back()).copied()
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unique_local() || v6 == Ipv6Addr::LOCALHOST,
    }
}

fn is_bridge(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).join("bridge").exists()
}

/// The address of the route to the outside.
fn towards_outside() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing: it asks the routing table. The address is one reserved for examples.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_of_version_4_is_chosen_first() {
        let check = |addresses: &[&str], expect: Option<&str>| {
            let parse = |text: &&str| text.parse::<IpAddr>().expect("an address");
            let addresses: Vec<IpAddr> = addresses.iter().map(parse).collect();
            assert_eq!(chosen(&addresses), expect.as_ref().map(parse), "{addresses:?}");
        };
        check(&[], None);
        check(&["10.0.0.1", "192.168.1.1"], Some("10.0.0.1"));
        check(&["10.0.0.1", "203.0.113.9", "198.51.100.7"], Some("198.51.100.7"));
        check(&["2001:db8::1", "10.0.0.1"], Some("10.0.0.1"));
        check(&["fe80::1", "2001:db8::1"], Some("2001:db8::1"));
        check(&["fe80::1"], Some("fe80::1"));
    }

    #[test]
    fn a_single_address_is_told_as_it_is() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(advertised(loopback), loopback);
        assert!(!advertised(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).is_unspecified());
    }
}
