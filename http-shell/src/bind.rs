//! Binding listeners, with errors that say how to fix them.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "{address} is already in use: stop the program that holds it (`ss -ltnp 'sport = :{}'` \
         shows it) or configure another port in `bind`", address.port()
    )]
    InUse { address: SocketAddr },
    #[error("cannot listen on {address}: {source}")]
    Failed { address: SocketAddr, source: io::Error },
}

/// Binds every address. An address whose flag is false may be one that this machine does not have
/// (IPv6 loopback); one that is in use is an error all the same, because callers of `localhost` would
/// reach the other program. With port 0 the later addresses take the first one's port.
///
/// # Errors
/// The first address that cannot be bound; what was bound before is released.
pub async fn bind(addresses: &[(SocketAddr, bool)]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for (address, required) in addresses {
        let mut address = *address;
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            let port = first.local_addr().map_or(0, |it| it.port());
            address.set_port(port);
        }
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::InUse { address });
            }
            Err(error) if *required => {
                return Err(BindError::Failed { address, source: error });
            }
            Err(error) => tracing::info!(%address, %error, "address not available, left out"),
        }
    }
    Ok(listeners)
}
