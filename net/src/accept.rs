//! Takes connections in.

use std::io;
use std::rc::Rc;

use gantry_core::io::Protocol;
use tokio::net::TcpListener;

use crate::config::ACCEPT_PAUSE;
use crate::shell::Shell;

/// The task of one listener; it never ends. A refusal by the system (no file descriptors left) pauses it, and a
/// connection beyond the cap is closed at once: both are said once, until a connection is taken in again.
pub(crate) async fn accept<C: 'static>(shell: Rc<Shell<C>>, listener: TcpListener, protocol: Protocol) {
    let mut is_refusing = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match shell.name_accepted() {
                Some(id) => {
                    is_refusing = false;
                    shell.open(id, stream, peer, protocol);
                }
                None => {
                    if !std::mem::replace(&mut is_refusing, true) {
                        let max = shell.limits.connections_max;
                        tracing::warn!(%peer, max, "closing new connections: as many are open as may be");
                    }
                }
            },
            Err(error) if is_of_the_peer(&error) => {
                tracing::debug!(%error, "connection lost before it was accepted")
            }
            Err(error) => {
                if !std::mem::replace(&mut is_refusing, true) {
                    tracing::error!(%error, "cannot accept connections; raise the limit of open files (ulimit -n)");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Closes each connection at once; never ends.
pub(crate) async fn turn_away(listener: TcpListener) {
    loop {
        if listener.accept().await.is_err() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Whether only the connection that was to be accepted is lost, and the next may be asked for at once.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
