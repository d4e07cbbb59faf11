//! Which addresses of a base are believed: those under which others can reach it.

use std::net::IpAddr;

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
