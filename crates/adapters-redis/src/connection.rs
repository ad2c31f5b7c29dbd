//! The one connection, and when it is replaced by another.
//!
//! Calls of everybody go out on it one behind the other without waiting for each other's answers, and it
//! is made anew when it breaks. What the client's manager does not see is seen here: that the server at
//! the other end has become a replica, that nothing comes back any more, and that the credentials were
//! refused. Then whoever asks next gets a new connection.

use crate::{config::RedisConfig, error};
use parking_lot::Mutex;
use ports::{ErrorKind, PortError, Result};
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo as _, Pipeline,
    ProtocolVersion, RedisConnectionInfo, RedisError, ServerError, TlsCertificates, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use std::{fmt, time::Duration};

/// How many calls may wait to be sent; further ones wait for room.
const QUEUE: usize = 256;

/// A connection that is made when it is first needed, and again when it must be.
pub(crate) struct Connection {
    client: Client,
    manager: ConnectionManagerConfig,
    timeout: Duration,
    /// The one in use, and how many there were before it.
    current: Mutex<(u64, ConnectionManager)>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.client.get_connection_info().addr().to_string())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Checks the settings; connects to nothing yet. Wants a runtime around it.
    pub(crate) fn open(config: &RedisConfig) -> Result<Self> {
        const OPERATION: &str = "redis.open";
        let client = client(config).map_err(|error| {
            PortError::new(ErrorKind::Invalid, OPERATION, format!("Redis: {error}")).with_source(error)
        })?;
        let manager = ConnectionManagerConfig::new()
            // A server that is not there is told at once. Whoever needs it asks again, and paces that.
            .set_number_of_retries(0)
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.request_timeout))
            .set_pipeline_buffer_size(QUEUE);
        let first = connect(&client, &manager, OPERATION)?;
        let timeout = config.request_timeout;
        Ok(Self { client, manager, timeout, current: Mutex::new((0, first)) })
    }

    /// Sends commands together, in one round trip. An answer that is an error stays in its place.
    ///
    /// They must be such that sending them twice is as good as once: a connection that turns out to be
    /// broken costs no error where the next one is good.
    pub(crate) async fn send(&self, commands: &Pipeline, operation: &'static str) -> Result<Vec<Value>> {
        let (number, mut manager) = self.current.lock().clone();
        let count = commands.len();
        let sending = async {
            match manager.send_packed_commands(commands, 0, count).await {
                Err(error) if error.is_connection_dropped() && !error.is_connection_refusal() => {
                    let again = manager.send_packed_commands(commands, 0, count).await;
                    again.map_err(|error| error::of(error, operation).effect_unknown())
                }
                answers => answers.map_err(|error| error::of(error, operation)),
            }
        };
        let answers = match tokio::time::timeout(self.timeout, sending).await {
            Ok(Ok(answers)) if answers.len() == count => Ok(answers),
            Ok(Ok(_)) => Err(error::corrupt(operation, "another number of answers than of commands")),
            Ok(Err(error)) => Err(error),
            Err(_late) => Err(error::late(operation)),
        };
        if answers.as_ref().is_err_and(error::wants_another_connection) {
            self.replace(number, operation);
        }
        answers
    }

    /// Sends one command; what it answers may be an error of the server's.
    pub(crate) async fn one(&self, command: Cmd, operation: &'static str) -> Result<Value> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        let answer = self.send(&commands, operation).await?.pop();
        answer.ok_or_else(|| error::corrupt(operation, "no answer to a command"))
    }

    /// Sends one command, and reads what it answers.
    pub(crate) async fn ask<A: FromRedisValue>(&self, command: Cmd, operation: &'static str) -> Result<A> {
        self.read(self.one(command, operation).await?, operation)
    }

    /// Reads what a command was answered.
    pub(crate) fn read<A: FromRedisValue>(&self, answer: Value, operation: &'static str) -> Result<A> {
        match answer {
            Value::ServerError(error) => Err(self.refusal(error, operation)),
            answer => A::from_redis_value(answer)
                .map_err(|_| error::corrupt(operation, "an answer of another shape than the command's")),
        }
    }

    /// The error that an answer is, if it is one; gives the connection up where another may do better.
    pub(crate) fn refusal(&self, error: ServerError, operation: &'static str) -> PortError {
        let error = error::of(error.into(), operation);
        if error::wants_another_connection(&error) {
            let number = self.current.lock().0;
            self.replace(number, operation);
        }
        error
    }

    /// Gives up connection `number`, unless somebody has already.
    fn replace(&self, number: u64, operation: &'static str) {
        let mut current = self.current.lock();
        if current.0 == number
            && let Ok(next) = connect(&self.client, &self.manager, operation)
        {
            *current = (number + 1, next);
        }
    }
}

/// Makes a manager, which connects at the first call.
fn connect(
    client: &Client,
    config: &ConnectionManagerConfig,
    operation: &'static str,
) -> Result<ConnectionManager> {
    ConnectionManager::new_lazy_with_config(client.clone(), config.clone())
        .map_err(|error| error::of(error, operation))
}

fn client(config: &RedisConfig) -> Result<Client, RedisError> {
    let (host, port) = (config.host.clone(), config.port);
    let address = if config.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut login = RedisConnectionInfo::default()
        .set_db(i64::from(config.database))
        .set_protocol(ProtocolVersion::RESP2)
        .set_lib_name("event-streaming", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &config.username {
        login = login.set_username(username);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password);
    }
    let info: ConnectionInfo = address.into_connection_info()?;
    // A small call must not wait for the answer to the one before it.
    let info = info.set_redis_settings(login).set_tcp_settings(TcpSettings::default().set_nodelay(true));
    if config.tls {
        Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: config.tls_ca.clone() })
    } else {
        Client::open(info)
    }
}
