//! Opens connections that a machine asked for.

use std::net::SocketAddr;
use std::rc::Rc;

use gantry_core::io::{ConnId, Peer};
use tokio::net::TcpStream;

use crate::shell::Shell;

/// The task of one dial: resolves the name, connects, and hands over what came of it.
pub(crate) async fn dial<C: 'static>(shell: Rc<Shell<C>>, id: ConnId, peer: Peer) {
    let stream = match tokio::time::timeout(shell.limits.dial, connect(&peer.address)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(peer = %peer.address, %error, "dial failed");
            None
        }
        Err(_elapsed) => {
            tracing::debug!(peer = %peer.address, limit = ?shell.limits.dial, "dial timed out");
            None
        }
    };
    shell.dialled(id, peer.protocol, stream);
}

async fn connect(address: &str) -> std::io::Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::connect(address).await?;
    let peer = stream.peer_addr()?;
    Ok((stream, peer))
}
