//! Which addresses of a base are believed: those under which others can reach it.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::domain::printable;

/// Why what a base says is no address for its Node and Pods. The API server would refuse some, and others would send
/// traffic to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A name, a word, an address with a scope.
    #[error("{0:?} is no IP address")]
    NotAnAddress(String),
    /// It means something else on each machine, or nobody in particular.
    #[error("{said:?} is {what}: nobody else reaches the base under it")]
    Special {
        /// As it was said.
        said: String,
        /// What it is.
        what: &'static str,
    },
    /// Not where bases are.
    #[error("{0} is in none of the ranges where bases are (MODULET_BASE_ADDRESSES)")]
    OutOfRange(String),
}

/// Where bases are. None: everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRanges(Arc<[IpNet]>);

impl AddressRanges {
    /// In these ranges.
    pub fn new(ranges: Vec<IpNet>) -> Self {
        Self(ranges.into())
    }

    /// The address in the form in which the API server has it.
    ///
    /// # Errors
    /// As [`address`], and it is in none of the ranges.
    pub fn address(&self, said: &str) -> Result<String, AddressError> {
        let ip = address(said)?;
        if ip.parse().is_ok_and(|ip| self.allow(ip)) { Ok(ip) } else { Err(AddressError::OutOfRange(ip)) }
    }

    /// Whether a base may be there.
    pub fn allow(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.name(address)
    }

    /// Whether this is in one of the ranges that are named. Where none are, none is.
    pub fn name(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// What a base says of its address, without one that is in none of the ranges.
    pub fn admit(&self, ip: Option<String>, refused: Option<AddressError>) -> (Option<String>, Option<AddressError>) {
        match ip.map(|ip| self.address(&ip)) {
            Some(Err(why)) => (None, Some(why)),
            Some(Ok(ip)) => (Some(ip), refused),
            None => (None, refused),
        }
    }
}

/// The address in the form in which the API server has it.
///
/// # Errors
/// It is no address, or one that does not lead to one base.
pub fn address(said: &str) -> Result<String, AddressError> {
    let Ok(ip) = said.parse::<IpAddr>() else {
        return Err(AddressError::NotAnAddress(printable(said, 100).into_owned()));
    };
    let ip = ip.to_canonical();
    let what = match ip {
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_loopback() => "a loopback address",
        _ if ip.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_link_local() => "a link-local address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "an address of no network",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        _ => return Ok(ip.to_string()),
    };
    Err(AddressError::Special { said: said.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_that_lead_to_a_base_are_taken_in_their_usual_form() {
        for (said, taken) in [
            ("192.0.2.10", "192.0.2.10"),
            ("10.0.0.1", "10.0.0.1"),
            ("100.64.0.1", "100.64.0.1"),
            ("2001:DB8:0:0::0001", "2001:db8::1"),
            ("fd00::10", "fd00::10"),
            ("::ffff:192.0.2.10", "192.0.2.10"),
        ] {
            assert_eq!(address(said).as_deref(), Ok(taken), "{said}");
        }
    }

    #[test]
    fn others_are_refused_with_a_reason_that_names_them() {
        for odd in [
            "unknown",
            "base.example.com",
            "localhost",
            "fe80::1%eth0",
            "999.0.2.1",
            "010.0.0.1",
            "192.0.2.10:8080",
            "[2001:db8::1]",
            " 192.0.2.10",
            "192.0.2",
            "1",
        ] {
            assert_eq!(address(odd), Err(AddressError::NotAnAddress(odd.to_owned())), "{odd}");
        }
        for special in [
            "127.0.0.1",
            "127.8.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "fe80::1",
            "febf::1",
            "224.0.0.1",
            "239.1.2.3",
            "ff02::1",
            "255.255.255.255",
        ] {
            let error = address(special).unwrap_err();
            assert!(matches!(&error, AddressError::Special { said, .. } if said == special), "{error}");
            assert!(error.to_string().contains(special));
        }
    }

    #[test]
    fn where_ranges_are_given_others_are_refused() {
        let ranges = |all: &[&str]| AddressRanges::new(all.iter().map(|range| range.parse().unwrap()).collect());
        let some = ranges(&["10.1.0.0/16", "2001:db8::/32", "192.0.2.10/32"]);
        for inside in ["10.1.255.1", "2001:db8::1", "192.0.2.10", "::ffff:10.1.0.1"] {
            assert_eq!(some.address(inside), address(inside), "{inside}");
        }
        for outside in ["10.2.0.1", "2001:db9::1", "192.0.2.11", "8.8.8.8"] {
            let why = some.address(outside).unwrap_err();
            assert_eq!(why, AddressError::OutOfRange(outside.to_owned()));
            assert!(why.to_string().contains("MODULET_BASE_ADDRESSES"), "{why}");
            assert_eq!(ranges(&[]).address(outside).as_deref(), Ok(outside));
        }
        // A range does not make a special address believable.
        assert!(matches!(ranges(&["0.0.0.0/0"]).address("127.0.0.1"), Err(AddressError::Special { .. })));
        let refused = AddressError::OutOfRange("10.2.0.1".to_owned());
        assert_eq!(some.admit(Some("10.2.0.1".to_owned()), None), (None, Some(refused.clone())));
        assert_eq!(some.admit(None, Some(refused.clone())), (None, Some(refused)));
        assert_eq!(some.admit(Some("10.1.0.1".to_owned()), None), (Some("10.1.0.1".to_owned()), None));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_taken_again_as_it_is(said in "\\PC{0,60}|[0-9a-f:.%]{1,40}|[0-9]{1,3}(\\.[0-9]{1,3}){3}") {
            match address(&said) {
                Ok(ip) => prop_assert_eq!(address(&ip), Ok(ip)),
                Err(error) => prop_assert!(error.to_string().chars().count() < 2000),
            }
        }
    }
}
