//! What a broker may send, and whatever else arrives.

use proptest::{collection, prelude::*};

use super::*;

fn all(version: Version, bytes: &[u8], piece: usize) -> Result<Vec<Packet>, PacketError> {
    let (mut inbox, mut packets) = (Inbox::new(version), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        inbox.buffer.extend_from_slice(piece);
        while let Some(packet) = inbox.next()? {
            packets.push(packet);
        }
    }
    Ok(packets)
}

fn message(first: u8, topic: &str, id: Option<u16>, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = BytesMut::new();
    put_bytes(&mut body, topic.as_bytes());
    if let Some(id) = id {
        body.put_u16(id);
    }
    body.extend_from_slice(properties);
    body.extend_from_slice(payload);
    let mut out = BytesMut::new();
    put_packet(&mut out, first, &body);
    out.to_vec()
}

#[test]
fn what_brokers_say_is_understood() {
    let message_of = |id, retained, payload: &'static [u8]| Packet::Publish {
        topic: "a/b".to_owned(),
        id,
        retained,
        payload: Ok(Bytes::from_static(payload)),
    };
    let limits = Limits { packet: Some(20_000), in_flight: Some(20) };
    let connack = [0x20, 16, 0, 0, 13, 0x27, 0, 0, 0x4e, 0x20, 0x21, 0, 20, 0x13, 0, 60, 0x2a, 1];
    for (version, bytes, expected) in [
        (Version::V311, vec![0x20, 2, 0, 5], Packet::ConnAck { code: 5, limits: Limits::default() }),
        (Version::V5, connack.to_vec(), Packet::ConnAck { code: 0, limits }),
        // A broker that speaks 3.1.1 only.
        (Version::V5, vec![0x20, 2, 0, 1], Packet::ConnAck { code: 1, limits: Limits::default() }),
        (Version::V311, vec![0x90, 4, 0, 7, 1, 0x80], Packet::SubAck { id: 7, codes: vec![1, 0x80] }),
        (Version::V5, vec![0x90, 5, 0, 7, 0, 1, 0x87], Packet::SubAck { id: 7, codes: vec![1, 0x87] }),
        (Version::V311, vec![0x40, 2, 1, 2], Packet::PubAck { id: 258, code: 0 }),
        (Version::V5, vec![0x40, 4, 1, 2, 0x87, 0], Packet::PubAck { id: 258, code: 0x87 }),
        (Version::V311, vec![0xd0, 0], Packet::PingResp),
        (Version::V5, vec![0xe0, 0], Packet::Disconnect { code: 0 }),
        (Version::V5, vec![0xe0, 2, 0x95, 0], Packet::Disconnect { code: 0x95 }),
        (Version::V311, message(0x30, "a/b", None, &[], b"x"), message_of(None, false, b"x")),
        (Version::V311, message(0x33, "a/b", Some(9), &[], b""), message_of(Some(9), true, b"")),
        (Version::V5, message(0x32, "a/b", Some(9), &[2, 0x01, 1], b"{}"), message_of(Some(9), false, b"{}")),
    ] {
        for piece in [1, 2, 3, 1000] {
            assert_eq!(all(version, &bytes, piece), Ok(vec![Packet::PingResp; 0].into_iter().chain([clone(&expected)]).collect()), "{bytes:?}");
        }
    }
}

fn clone(packet: &Packet) -> Packet {
    match packet {
        Packet::ConnAck { code, limits } => Packet::ConnAck { code: *code, limits: *limits },
        Packet::SubAck { id, codes } => Packet::SubAck { id: *id, codes: codes.clone() },
        Packet::Publish { topic, id, retained, payload } => {
            Packet::Publish { topic: topic.clone(), id: *id, retained: *retained, payload: payload.clone() }
        }
        Packet::PubAck { id, code } => Packet::PubAck { id: *id, code: *code },
        Packet::PingResp => Packet::PingResp,
        Packet::Disconnect { code } => Packet::Disconnect { code: *code },
    }
}

#[test]
fn a_message_that_is_too_long_is_skipped_without_being_kept() {
    let long = vec![b'x'; MAX_PACKET + 1];
    for version in [Version::V311, Version::V5] {
        let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let mut bytes = message(0x32, "a/b", Some(9), properties, &long);
        bytes.extend(message(0x32, "c", Some(10), properties, b"next"));
        let (mut inbox, mut packets) = (Inbox::new(version), Vec::new());
        for piece in bytes.chunks(10_000) {
            inbox.buffer.extend_from_slice(piece);
            while let Some(packet) = inbox.next().unwrap() {
                packets.push(packet);
            }
            assert!(inbox.buffer.len() <= 10_000, "nothing piles up");
        }
        let size = long.len() + properties.len();
        let too_long = Packet::Publish { topic: "a/b".to_owned(), id: Some(9), retained: false, payload: Err(size) };
        let payload = Ok(Bytes::from_static(b"next"));
        assert_eq!(packets, [too_long, Packet::Publish { topic: "c".to_owned(), id: Some(10), retained: false, payload }]);
    }
}

#[test]
fn what_no_broker_sends_ends_the_connection() {
    for bytes in [
        &[0x10, 0][..],
        &[0x00, 0],
        &[0xf0, 0],
        &[0x20, 0],
        &[0x40, 1, 0],
        &[0x90, 1, 0],
        &[0x30, 1, 0],
        &[0x30, 3, 0, 9, b'a'],
        &[0x30, 0xff, 0xff, 0xff, 0xff],
        // Longer than anything, and no message.
        &[0x20, 0xff, 0xff, 0xff, 0x7f],
    ] {
        assert!(all(Version::V311, bytes, 100).is_err(), "{bytes:?}");
    }
    for bytes in [&[0x20, 3, 0, 0, 9][..], &[0x20, 4, 0, 0, 1, 0x77], &[0x20, 5, 0, 0, 2, 0x27, 0]] {
        assert!(all(Version::V5, bytes, 100).is_err(), "{bytes:?}");
    }
}

#[test]
fn lengths_are_written_as_the_specification_has_them() {
    for (length, bytes) in [
        (0, &[0][..]),
        (127, &[127]),
        (128, &[0x80, 1]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 1]),
        (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
    ] {
        let mut out = BytesMut::new();
        put_header(&mut out, 0, length);
        assert_eq!(&out[1..], bytes);
        assert_eq!(variable_int(bytes), Ok(Some((length, bytes.len()))));
    }
}

proptest! {
    #[test]
    fn whatever_arrives_in_whatever_pieces_is_read_the_same(
        bytes in collection::vec(prop_oneof![any::<u8>(), Just(0_u8), Just(2), Just(0x30), Just(0x40)], 0..300),
        piece in 1_usize..50, version5 in any::<bool>(),
    ) {
        let version = if version5 { Version::V5 } else { Version::V311 };
        prop_assert_eq!(all(version, &bytes, piece), all(version, &bytes, 1000));
    }

    #[test]
    fn messages_come_out_as_they_went_in(
        topic in "\\PC{0,50}", id in any::<u16>(), payload in collection::vec(any::<u8>(), 0..500),
        piece in 1_usize..700, version5 in any::<bool>(),
    ) {
        let version = if version5 { Version::V5 } else { Version::V311 };
        let mut out = BytesMut::new();
        publish(&mut out, version, id, &topic, &payload);
        prop_assert!(out.len() <= publish_overhead(&topic) + payload.len());
        let expected = Packet::Publish { topic, id: Some(id), retained: false, payload: Ok(payload.into()) };
        prop_assert_eq!(all(version, &out, piece), Ok(vec![expected]));
    }
}
