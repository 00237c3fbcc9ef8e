//! A network between a service and its database, of one link, that fails as networks do.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    select,
    sync::watch,
    task::JoinSet,
};

/// How it is with a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Bytes get through.
    Up,
    /// Nothing gets through, and nobody is told. What was sent comes when the link is up again, however late.
    Silent,
    /// The same for what the database says; what it is told gets through.
    Deaf,
    /// Connections break, and new ones too.
    Broken,
}

/// One link to one address. It is gone when this is.
pub(crate) struct Network {
    address: SocketAddr,
    link: Arc<watch::Sender<Link>>,
    _running: JoinSet<()>,
}

impl Network {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (link, is) = watch::channel(Link::Up);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(carry(stream, target, is.clone()));
            }
        });
        Self { address, link: Arc::new(link), _running: running }
    }

    /// Where its near end is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

/// Carries one connection for as long as it and the link last.
async fn carry(near: TcpStream, target: SocketAddr, mut is: watch::Receiver<Link>) {
    let link = is.wait_for(|link| !matches!(link, Link::Silent)).await.map(|link| *link);
    if link.is_ok_and(|link| link != Link::Broken)
        && let Ok(far) = TcpStream::connect(target).await
    {
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        let (there, back) = (is.clone(), is.clone());
        let there = pump(near_in, far_out, there, |link| link != Link::Silent);
        let back = pump(far_in, near_out, back, |link| link == Link::Up);
        select! {
            // Either end says that it is over, once all that it has said has got through; or the link breaks.
            ((), ()) = async { tokio::join!(there, back) } => {}
            _ = is.wait_for(|link| *link == Link::Broken) => {}
        }
    }
}

/// Carries bytes one way while they get through.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut is: watch::Receiver<Link>,
    passes: impl Fn(Link) -> bool,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if is.wait_for(|link| passes(*link)).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    // What ended before a silence is heard after it.
    if is.wait_for(|link| passes(*link)).await.is_ok() {
        let _gone = to.shutdown().await;
    }
}
