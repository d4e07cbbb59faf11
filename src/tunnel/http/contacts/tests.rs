use super::*;

fn ranges(all: &[&str]) -> AddressRanges {
    AddressRanges::new(all.iter().map(|range| range.parse().unwrap()).collect())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_beat_for_anothers_address_is_refused_unless_both_are_in_the_ranges() {
    let contacts = Contacts::new(AddressRanges::default());
    assert_eq!(contacts.place(ip("10.0.0.1"), Some(ip("10.0.0.1"))), Ok(ip("10.0.0.1")));
    assert_eq!(contacts.place(ip("::ffff:10.0.0.1"), Some(ip("10.0.0.1"))), Ok(ip("10.0.0.1")));
    assert_eq!(contacts.place(ip("10.0.0.1"), None), Ok(ip("10.0.0.1")), "what it says is no address");
    assert_eq!(contacts.place(ip("127.0.0.1"), Some(ip("192.0.2.2"))), Ok(ip("127.0.0.1")), "this machine");
    assert!(contacts.place(ip("10.0.0.1"), Some(ip("10.0.0.2"))).is_err());
    assert!(contacts.place(ip("10.0.0.1"), Some(ip("169.254.169.254"))).is_err());
    let contacts = Contacts::new(ranges(&["10.0.0.0/8", "fd00::/8"]));
    assert_eq!(contacts.place(ip("10.0.0.1"), Some(ip("10.9.0.2"))), Ok(ip("10.9.0.2")));
    assert_eq!(contacts.place(ip("fd00::1"), Some(ip("fd00::2"))), Ok(ip("fd00::2")));
    assert!(contacts.place(ip("11.0.0.1"), Some(ip("10.0.0.2"))).is_err());
    assert!(contacts.place(ip("10.0.0.1"), Some(ip("11.0.0.2"))).is_err());
    assert!(contacts.place(ip("127.0.0.1"), Some(ip("10.0.0.2"))).is_err(), "this machine is not named");
    // A proxy beside modulet speaks for bases.
    let contacts = Contacts::new(ranges(&["10.0.0.0/8", "127.0.0.1/32"]));
    assert_eq!(contacts.place(ip("127.0.0.1"), Some(ip("10.0.0.2"))), Ok(ip("10.0.0.2")));
    assert!(contacts.place(ip("127.0.0.1"), Some(ip("11.0.0.2"))).is_err());
}

#[test]
fn nobody_is_taken_for_a_base_that_lives_elsewhere() {
    let (contacts, base, start) = (Contacts::default(), BaseId::new("base-1"), Instant::now());
    let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 1238));
    let after = |s: u64| start + Duration::from_secs(s);
    let believes = |last: u8, s: u64| contacts.believes(&base, at(last).ip(), after(s));
    assert_eq!(believes(2, 0), Ok(()), "nobody knows it");
    contacts.beat(&base, at(1), start);
    for (s, look) in [(0, false), (4, false), (5, true), (6, false), (10, true), (27, true)] {
        let taken = believes(2, s).unwrap_err();
        assert_eq!((taken.at, taken.look), (at(1), look), "after {s} s");
        assert!(taken.to_string().contains("base-1 lives at 10.0.0.1:1238: nobody at 10.0.0.2"), "{taken}");
        assert_eq!(believes(1, s), Ok(()));
    }
    assert_eq!(contacts.of(&base), Some(at(1)), "what is refused leaves no trace");
    // It is late, and was looked for before it came.
    let taken = believes(2, 27).unwrap_err();
    contacts.beat(&base, at(1), after(27));
    assert!(!contacts.give_up(&taken), "it was heard meanwhile");
    assert_eq!(contacts.of(&base), Some(at(1)));
    assert!(believes(2, 54).is_err());
    assert_eq!(believes(2, 55), Ok(()), "two beats are missing");
    // The one that moved is the one that lives now.
    assert_eq!(contacts.beat(&base, at(2), after(55)), Beat { out_of_turn: true, alternates: None });
    assert!(believes(1, 56).is_err());
    assert!(contacts.give_up(&believes(1, 60).unwrap_err()));
    assert_eq!((contacts.of(&base), believes(1, 60)), (None, Ok(())));
}

#[test]
fn the_newest_beat_tells_where_a_base_is_and_two_that_share_an_identity_are_told_of_once() {
    let (contacts, base, start) = (Contacts::default(), BaseId::new("base-1"), Instant::now());
    let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
    let after = |s: u64| start + Duration::from_secs(s);
    assert_eq!(contacts.beat(&base, at(1238), start), Beat { out_of_turn: true, alternates: None }, "the first");
    assert_eq!(contacts.beat(&base, at(1238), after(12)), Beat { out_of_turn: false, alternates: None });
    // It restarted and has another port: at first that looks the same as a second base.
    assert_eq!(contacts.beat(&base, at(1239), after(15)), Beat { out_of_turn: true, alternates: Some(1238) });
    assert_eq!(contacts.of(&base), Some(at(1239)));
    assert_eq!(contacts.beat(&base, at(1238), after(24)), Beat { out_of_turn: true, alternates: None }, "said before");
    assert_eq!(contacts.beat(&base, at(1238), after(60)), Beat { out_of_turn: true, alternates: None }, "it was away");
    assert_eq!(contacts.of(&BaseId::new("other")), None);
}

#[test]
fn invented_identities_take_no_more_room_than_there_is() {
    let (contacts, start) = (Contacts::default(), Instant::now());
    let at = SocketAddr::from(([10, 0, 0, 1], 1238));
    for number in 0..CONTACTS + 10 {
        contacts.beat(&BaseId::new(format!("base-{number}")), at, start + Duration::from_millis(number as u64));
    }
    assert_eq!(open(&contacts.known).len(), CONTACTS);
    assert!(contacts.of(&BaseId::new("base-0")).is_none());
}
