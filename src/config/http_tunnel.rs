//! Options of the HTTP tunnel.

use clap::{ArgAction, Args, builder::BoolishValueParser};

use crate::tunnel::{AddressRanges, http::HttpConfig};

/// How bases reach modulet over HTTP.
#[derive(Args, Debug)]
pub(super) struct HttpTunnelArgs {
    /// Connect to bases over HTTP: bases post their heartbeats to modulet, and modulet posts commands to them
    #[arg(long, env = "ENABLE_HTTP_TUNNEL", default_value_t = false, action = ArgAction::Set, value_parser = BoolishValueParser::new(), value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    enable_http_tunnel: bool,

    /// Port for heartbeats of bases over HTTP
    #[arg(long, env = "HTTP_TUNNEL_LISTEN_PORT", default_value_t = 7777, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    http_tunnel_listen_port: u16,
}

impl HttpTunnelArgs {
    /// None: it is not switched on.
    pub(super) fn config(&self, ranges: &AddressRanges) -> Option<HttpConfig> {
        let port = self.http_tunnel_listen_port;
        self.enable_http_tunnel.then(|| HttpConfig { port, ranges: ranges.clone() })
    }
}
