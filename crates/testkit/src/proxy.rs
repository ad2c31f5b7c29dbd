//! A way to a real server that can be cut, held up and opened again.

use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// What becomes of what is sent through a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is passed on.
    Open,
    /// It is taken and goes nowhere, as with a network that swallows packets.
    Held,
    /// What is asked is passed on, and where an answer comes the connection is closed instead.
    Unanswered,
    /// Connections are closed as they come, as with a server that is gone.
    Cut,
}

/// Listens on loopback and passes on what comes, both ways, to a server. Ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// What becomes of connections that come now, and of those that came since it was made.
    way: Arc<Mutex<watch::Sender<Way>>>,
    /// Of connections that were left to what becomes of them.
    lost: Mutex<Vec<watch::Sender<Way>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    listening: AbortHandle,
}

impl Proxy {
    /// A way to `server`, as `127.0.0.1:6379`, open.
    ///
    /// # Panics
    /// When nothing can be listened at.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let way = Arc::new(Mutex::new(watch::Sender::new(Way::Open)));
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let (server, accepted, current) = (server.to_owned(), connections.clone(), way.clone());
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let way = current.lock().subscribe();
                if *way.borrow() != Way::Cut {
                    accepted.lock().spawn(connect(client, server.clone(), way.clone()));
                }
            }
        });
        let listening = listening.abort_handle();
        Self { address, way, lost: Mutex::default(), connections, listening }
    }

    /// The port to connect to, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes what is connected, and whatever comes.
    pub async fn cut(&self) {
        self.way.lock().send_replace(Way::Cut);
        let mut connections = std::mem::take(&mut *self.connections.lock());
        connections.shutdown().await;
    }

    /// Takes what is sent and passes nothing on, both ways; connecting works.
    pub fn hold(&self) {
        self.way.lock().send_replace(Way::Held);
    }

    /// Takes what is sent on the connections that there are and passes nothing on, ever; new ones are open. As
    /// after the failover of what forgets whom it had connected.
    pub fn lose(&self) {
        self.leave(Way::Held);
    }

    /// Breaks each of the connections that there are when the next answer would come on it, after what was asked
    /// had its effect; new ones are open.
    pub fn break_at_answer(&self) {
        self.leave(Way::Unanswered);
    }

    fn leave(&self, way: Way) {
        let lost = std::mem::replace(&mut *self.way.lock(), watch::Sender::new(Way::Open));
        lost.send_replace(way);
        self.lost.lock().push(lost);
    }

    /// Passes everything on again, also what was held.
    pub fn open(&self) {
        self.way.lock().send_replace(Way::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn connect(client: TcpStream, server: String, way: watch::Receiver<Way>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pass(from_client, to_server, way.clone(), &[Way::Open, Way::Unanswered]) => {}
        () = pass(from_server, to_client, way, &[Way::Open]) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    passing: &[Way],
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let way = way.wait_for(|way| *way != Way::Held).await.map(|way| *way);
        if !way.is_ok_and(|way| passing.contains(&way)) || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
