//! A speaker of messages, not of routes: it announces what a scenario says and keeps what it hears.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use margay_bgp_speaker::core::wire::{
    Attributes, Capability, DecodeContext, Message, Open, PeerKind, decode, encode_announcements, encode_keepalive,
    encode_open, frame,
};
use margay_net::{Asn, Cidr, Family};
use socket2::{Domain, Socket, Type};

use crate::support::{Lab, so, within};

pub struct Collector {
    stream: TcpStream,
    heard: Arc<Mutex<Vec<Message>>>,
    reader: Option<JoinHandle<()>>,
    family: Family,
    four_octet: bool,
}

impl Collector {
    /// Connects to `to` from the lab's third address and brings up a session; the other side is of our AS where
    /// `internal`.
    pub fn connect(lab: &Lab, to: IpAddr, asn: u32, internal: bool) -> Collector {
        Collector::connect_as(lab, to, asn, internal, true)
    }

    /// Likewise, with two-octet AS numbers where `four_octet` is false.
    pub fn connect_as(lab: &Lab, to: IpAddr, asn: u32, internal: bool, four_octet: bool) -> Collector {
        let (from, family) = (lab.collector_address(), lab.family);
        let stream = within(Duration::from_secs(20), "the collector's connection", || {
            let dial = move || {
                let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
                let socket = Socket::new(domain, Type::STREAM, None)?;
                socket.bind(&SocketAddr::new(from, 0).into())?;
                socket.connect_timeout(&SocketAddr::new(to, 179).into(), Duration::from_secs(2))?;
                Ok::<_, std::io::Error>(TcpStream::from(socket))
            };
            let stream =
                lab.collector().thread("collector", dial).join().unwrap().map_err(|error| error.to_string())?;
            let mut capabilities = vec![Capability::Multiprotocol(family.into()), Capability::RouteRefresh];
            if four_octet {
                capabilities.push(Capability::FourOctetAsn(Asn(asn)));
            }
            let open = Open::new(Asn(asn), 90, Ipv4Addr::new(192, 0, 2, 3), capabilities);
            (&stream).write_all(&encode_open(&open)).map_err(|error| error.to_string())?;
            (&stream).write_all(&encode_keepalive()).map_err(|error| error.to_string())?;
            established(&stream).map(|()| stream)
        });
        let heard = Arc::new(Mutex::new(Vec::new()));
        let context = DecodeContext {
            four_octet_asn: four_octet,
            peer_kind: if internal { PeerKind::Internal } else { PeerKind::External },
            families: [family].into_iter().collect(),
            ..DecodeContext::default()
        };
        let (reading, keep) = (stream.try_clone().unwrap(), heard.clone());
        let reader = std::thread::spawn(move || read(reading, context, &keep));
        Collector { stream, heard, reader: Some(reader), family, four_octet }
    }

    /// Announces prefixes with what is in `attributes`.
    pub fn announce(&self, attributes: &Attributes, prefixes: &[Cidr]) {
        for message in encode_announcements(self.family, attributes, prefixes.iter().copied(), self.four_octet).unwrap()
        {
            (&self.stream).write_all(&message).unwrap();
        }
    }

    /// What was announced to it last for a prefix and not withdrawn since.
    pub fn route(&self, prefix: Cidr) -> Result<Attributes, String> {
        let mut route = None;
        for message in self.heard.lock().unwrap().iter() {
            if let Message::Update(update) = message {
                // What others send is well-formed, or the decoder is wrong.
                assert_eq!(update.problems, []);
                if update.withdrawn.iter().any(|routes| routes.prefixes.contains(&prefix)) {
                    route = None;
                }
                if let Some(routes) = update.announced.iter().find(|routes| routes.prefixes.contains(&prefix)) {
                    route = Some(routes.attributes.clone());
                }
            }
        }
        route.ok_or_else(|| format!("{prefix} is not announced: {:?}", self.heard.lock().unwrap()))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Reads the other side's OPEN and KEEPALIVE.
fn established(mut stream: &TcpStream) -> Result<(), String> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| error.to_string())?;
    for expected in [1, 4] {
        let mut header = [0; 19];
        stream.read_exact(&mut header).map_err(|error| format!("no message {expected}: {error}"))?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])).saturating_sub(19)];
        stream.read_exact(&mut body).map_err(|error| error.to_string())?;
        so(header[18] == expected, || format!("message {} {body:02x?} instead of {expected}", header[18]))?;
    }
    Ok(())
}

/// Keeps what is heard, and says KEEPALIVE once in a while, until the stream ends.
fn read(mut stream: TcpStream, context: DecodeContext, heard: &Mutex<Vec<Message>>) {
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let (mut buffer, mut bytes, mut said) = (Vec::new(), [0; 65536], Instant::now());
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(len) => buffer.extend_from_slice(&bytes[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        while let Some(len) = frame(&buffer, 4096).unwrap().filter(|&len| len <= buffer.len()) {
            let message: Vec<u8> = buffer.drain(..len).collect();
            let decoded = decode(&message, &context).unwrap_or_else(|error| panic!("{error}: {message:02x?}"));
            heard.lock().unwrap().push(decoded);
        }
        if said.elapsed() > Duration::from_millis(900) {
            said = Instant::now();
            if stream.write_all(&encode_keepalive()).is_err() {
                return;
            }
        }
    }
}
