//! A master put together: state, services, background tasks.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use braidcast_proto::v1::auth_server::AuthServer;
use braidcast_proto::v1::catalogue_server::CatalogueServer;
use braidcast_proto::v1::cluster_server::ClusterServer;
use braidcast_proto::v1::distribution_server::DistributionServer;
use braidcast_proto::v1::maintenance_server::MaintenanceServer;
use braidcast_proto::v1::origin_server::OriginServer;
use braidcast_proto::v1::publishing_server::PublishingServer;
use braidcast_proto::v1::users_server::UsersServer;
use braidcast_proto::{LIST_BYTES_MAX, MESSAGE_BYTES_MAX};
use sqlx::SqlitePool;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::accounts::{self, AccountNameError, Accounts, PasswordError, UserId};
use crate::auth::AuthService;
use crate::auth::gate::Gated;
use crate::auth::passwords::{Passwords, Queue};
use crate::auth::refresh::RefreshTokens;
use crate::auth::throttle::Throttle;
use crate::auth::tokens::Tokens;
use crate::backup::{Daily, unfinished};
use crate::catalogue::{CatalogueService, Shown};
use crate::cluster::{Cluster, ClusterService};
use crate::config::{BootstrapAdmin, ConfigError, MasterConfig};
use crate::database::Database;
use crate::database_file::DatabaseFile;
use crate::db::{self, DbError};
use crate::distribution::DistributionService;
use crate::errors::ServiceError;
use crate::findings::Findings;
use crate::healing::{self, Healing, Suspicions};
use crate::identity::{self, IdentityError, SettleError};
use crate::library::Library;
use crate::limits::{
    ACCOUNT_MESSAGE_BYTES_MAX, CATALOGUE_MESSAGE_BYTES_MAX, CLUSTER_MESSAGE_BYTES_MAX, CONNECTION_WINDOW_BYTES,
    DISTRIBUTION_MESSAGE_BYTES_MAX, FAULTY_STREAMS_MAX, HEADER_LIST_BYTES_MAX, KEEPALIVE,
    MAINTENANCE_MESSAGE_BYTES_MAX, PENDING_RESETS_MAX, SHUTDOWN_GRACE, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
};
use crate::maintenance::MaintenanceService;
use crate::net::calls::{Bounded, Calls};
use crate::net::{Seldom, accept, descriptors};
use crate::origin::Origin;
use crate::packs::OriginService;
use crate::publishing::PublishingService;
use crate::reserve::Reserve;
use crate::state_dir::{self, StateDir, StateError, at};
use crate::tls::{self, TlsError};
use crate::users::UsersService;

/// Who makes the first administrator: the database numbers its users from 1.
const NOBODY: UserId = UserId(0);
const REFRESH_SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// A running master. Dropping it stops it at once; [`Master::shutdown`] lets calls under way end.
pub struct Master {
    local_addr: SocketAddr,
    cluster: Arc<Cluster>,
    pool: SqlitePool,
    file: Arc<DatabaseFile>,
    daily: Arc<Daily>,
    stop: Option<oneshot::Sender<()>>,
    serving: Aborting,
    /// End with the master.
    _background: Vec<Aborting>,
    /// Let go of last.
    _state: StateDir,
}

/// Why a master does not start.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// A setting that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Database and origin are not of one library.
    #[error(transparent)]
    Library(#[from] IdentityError),
    /// There is no certificate to show.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The limit of descriptors cannot be read or raised.
    #[error("the limit of open files cannot be raised to its hard limit: {0}")]
    Descriptors(#[source] io::Error),
    /// The database cannot be opened.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The database was opened and cannot be read.
    #[error("the database cannot be read: {0}")]
    Query(#[from] sqlx::Error),
    /// The first administrator's name is not allowed.
    #[error("--bootstrap-admin: {0}")]
    AdminName(AccountNameError),
    /// The first administrator's password is not allowed.
    #[error("the first line of --bootstrap-password-file: {0}")]
    AdminPassword(PasswordError),
    /// A password cannot be hashed.
    #[error("passwords cannot be hashed: {0}")]
    Hashing(String),
    /// The port is taken, or is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A task that ends when this is dropped.
struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the services share.
struct Parts {
    pool: SqlitePool,
    accounts: Accounts,
    passwords: Arc<Passwords>,
    tokens: Arc<Tokens>,
    refresh: Arc<RefreshTokens>,
    library: Arc<Library>,
    origin: Origin,
    steer: Arc<Notify>,
    cluster: Arc<Cluster>,
    findings: Arc<Findings>,
    reserve: Arc<Reserve>,
    healing: Arc<Healing>,
    file: Arc<DatabaseFile>,
}

impl Master {
    /// Opens the state folder (creating what is absent), recovers from what a crash left, binds and serves.
    ///
    /// # Errors
    /// [`MasterError`] names what stands in the way and what to do about it.
    pub async fn start(config: MasterConfig) -> Result<Self, MasterError> {
        config.check()?;
        let state = StateDir::open(&config)?;
        unfinished::check(&config)?;
        // Before anything else is made: where the state folder's disk is not mounted, all would be hidden by it later.
        identity::check_before_database(&config).await?;
        let join_token = state_dir::join_token(&config.join_token_path())?;
        let tls = tls::server_config(&config)?;
        let parts = Parts::open(&config).await?;
        parts.bootstrap(config.bootstrap_admin.as_ref()).await?;
        let router = parts.router(&config, &join_token);
        let descriptors = descriptors::raise_limit().map_err(MasterError::Descriptors)?;
        let bounds = descriptors::connection_bounds(descriptors);
        let listen_error = |source| MasterError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let incoming = accept::connections(listener, tls, bounds);
            // A dropped sender stops it too.
            let signal = async { stopped.await.unwrap_or(()) };
            if let Err(error) = router.serve_with_incoming_shutdown(incoming, signal).await {
                tracing::error!(%error, "the control plane stopped");
            }
        });
        let cluster = Arc::clone(&parts.cluster);
        let driver = Arc::clone(&parts.cluster);
        let daily = Arc::new(Daily::new(config.clone(), parts.library.id(), Arc::clone(&parts.findings)));
        let snapshots = Arc::clone(&daily);
        let healing = || Arc::clone(&parts.healing);
        let background = vec![
            Aborting(tokio::spawn(async move { driver.run().await })),
            Aborting(tokio::spawn(healing().run())),
            Aborting(tokio::spawn(healing().check_suspects())),
            Aborting(tokio::spawn(healing().scrub(config.scrub_bytes_s))),
            Aborting(tokio::spawn(sweep_refresh_tokens(parts.refresh))),
            Aborting(tokio::spawn(async move { snapshots.run().await })),
            Aborting(tokio::spawn(Arc::clone(&parts.file).run(Arc::clone(&parts.findings)))),
            Aborting(tokio::spawn(parts.reserve.run(config.origin_path(), parts.findings))),
        ];
        let (library, connections) = (parts.library.id(), bounds.connections.all);
        tracing::info!(%local_addr, %library, descriptors, connections, "the master serves");
        Ok(Self {
            local_addr,
            cluster,
            pool: parts.pool,
            file: parts.file,
            daily,
            stop: Some(stop),
            serving: Aborting(serving),
            _background: background,
            _state: state,
        })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops taking calls, gives those under way 2 s, and ends.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails only if serving has ended already.
            let _ended = stop.send(());
        }
        self.cluster.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, &mut self.serving.0).await.is_err() {
            tracing::info!("calls under way were cut off");
        }
        // The last connection to close leaves one file without a write-ahead log: a snapshot has one of its own.
        let _quiet = tokio::time::timeout(SHUTDOWN_GRACE, self.daily.quiet()).await;
        self.file.close().await;
        self.pool.close().await;
    }
}

impl Parts {
    async fn open(config: &MasterConfig) -> Result<Self, MasterError> {
        let origin = Origin::new(config.origin_path());
        let open_reserve = || Arc::new(Reserve::open(&config.state_dir));
        // On a full disk a database needs the reserve's room to be opened. A new one comes before its reserve, so that a
        // reserve without a database tells that the database is gone.
        let in_time = identity::has_database(config).then(open_reserve);
        let pool = db::open(&config.database_path()).await?;
        let reserve = in_time.unwrap_or_else(open_reserve);
        let opened = match DatabaseFile::open(&pool, config.database_path()).await.map(Arc::new) {
            Ok(file) => {
                let opened = Self::open_with(config, pool.clone(), Arc::clone(&file), origin, reserve).await;
                if opened.is_err() {
                    file.close().await;
                }
                opened
            }
            Err(error) => Err(error.into()),
        };
        if opened.is_err() {
            // Whoever puts another file in the database's place must not find this one's write-ahead log beside it.
            pool.close().await;
        }
        opened
    }

    async fn open_with(
        config: &MasterConfig,
        pool: SqlitePool,
        file: Arc<DatabaseFile>,
        origin: Origin,
        reserve: Arc<Reserve>,
    ) -> Result<Self, MasterError> {
        let database = Database::new(pool.clone(), Arc::clone(&reserve), Arc::clone(&file));
        let rows = identity::rows(&pool).await?;
        let id = identity::settle(config, &pool, &rows, &origin).await?;
        origin.anchor(id).map_err(at(&config.origin_path()))?;
        let library = Arc::new(Library::open(database.clone(), id).await?);
        healing::recall(&library, &origin)?;
        library.set_lost(origin.sweep(&rows, |asset| library.is_removed(asset))?);
        let steer = Arc::new(Notify::new());
        let suspicions = Arc::new(Suspicions::default());
        let (same, suspected) = (Arc::clone(&library), Arc::clone(&suspicions));
        let cluster = Cluster::open(config, database.clone(), same, suspected, Arc::clone(&steer)).await?;
        let cluster = Arc::new(cluster);
        let healing = Healing::new(Arc::clone(&library), origin.clone(), Arc::clone(&cluster), suspicions);
        let accounts = Accounts::open(database.clone()).await?;
        Ok(Self {
            tokens: Arc::new(Tokens::open(&pool, config.token_lifetime, Arc::clone(accounts.standing())).await?),
            accounts,
            passwords: Arc::new(Passwords::new().await.map_err(hashing)?),
            refresh: Arc::new(RefreshTokens::new(database, config.refresh_lifetime)),
            cluster,
            healing,
            library,
            origin,
            steer,
            pool,
            findings: Arc::default(),
            reserve,
            file,
        })
    }

    /// Makes the first administrator in a library without accounts.
    async fn bootstrap(&self, admin: Option<&BootstrapAdmin>) -> Result<(), MasterError> {
        if self.accounts.any().await? {
            return Ok(());
        }
        let Some(admin) = admin else {
            tracing::warn!(
                "nobody can sign in, because there is no account yet: start the master again with --bootstrap-admin NAME \
                 --bootstrap-password-file FILE"
            );
            return Ok(());
        };
        accounts::check_username(&admin.username).map_err(MasterError::AdminName)?;
        accounts::check_password(&admin.password).map_err(MasterError::AdminPassword)?;
        let hash = self.passwords.hash(Queue::Caller(NOBODY), admin.password.clone()).await.map_err(hashing)?;
        if self.accounts.add_first(&admin.username, &hash).await? {
            tracing::info!(username = admin.username, "made the first administrator");
        }
        Ok(())
    }

    fn router(&self, config: &MasterConfig, join_token: &str) -> Router {
        let throttle = Arc::new(Mutex::new(Throttle::new(config.lock_after, config.lock_for)));
        let auth = AuthService {
            accounts: self.accounts.clone(),
            passwords: Arc::clone(&self.passwords),
            throttle: Arc::clone(&throttle),
            refresh: Arc::clone(&self.refresh),
            tokens: Arc::clone(&self.tokens),
            refusals: Seldom::default(),
        };
        let users = UsersService { accounts: self.accounts.clone(), passwords: Arc::clone(&self.passwords), throttle };
        let standing = || Arc::clone(self.accounts.standing());
        let catalogue = CatalogueService(Arc::new(Shown {
            library: Arc::clone(&self.library),
            cluster: Arc::clone(&self.cluster),
            origin: self.origin.clone(),
            steer: Arc::clone(&self.steer),
            standing: standing(),
        }));
        let (library, steer) = (Arc::clone(&self.library), Arc::clone(&self.steer));
        let publishing = PublishingService::new(library, self.origin.clone(), steer, standing());
        let distribution = DistributionService::new(
            Arc::clone(&self.library),
            self.origin.clone(),
            Arc::clone(&self.cluster),
            Arc::clone(&self.healing),
            config.ticket_lifetime,
        );
        let cluster = ClusterService::new(Arc::clone(&self.cluster), Arc::clone(&self.tokens), join_token);
        let origin = OriginService::new(Arc::clone(&self.library), self.origin.clone(), Arc::clone(&self.healing));
        let accounts = AuthServer::new(auth).max_decoding_message_size(ACCOUNT_MESSAGE_BYTES_MAX);
        let users = UsersServer::new(users).max_decoding_message_size(ACCOUNT_MESSAGE_BYTES_MAX);
        let catalogue = CatalogueServer::new(catalogue)
            .max_decoding_message_size(CATALOGUE_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(LIST_BYTES_MAX);
        let publishing = PublishingServer::new(publishing).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let distribution =
            DistributionServer::new(distribution).max_decoding_message_size(DISTRIBUTION_MESSAGE_BYTES_MAX);
        let cluster = ClusterServer::new(cluster).max_decoding_message_size(CLUSTER_MESSAGE_BYTES_MAX);
        let origin = OriginServer::new(origin).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let maintenance = MaintenanceService {
            origin: self.origin.clone(),
            library: Arc::clone(&self.library),
            findings: Arc::clone(&self.findings),
            cluster: Arc::clone(&self.cluster),
            standing: standing(),
        };
        let maintenance = MaintenanceServer::new(maintenance).max_decoding_message_size(MAINTENANCE_MESSAGE_BYTES_MAX);
        let front = Front { calls: Calls::new(), tokens: Arc::clone(&self.tokens) };
        bounded_http2()
            .add_service(front.before(accounts))
            .add_service(front.before(users))
            .add_service(front.before(catalogue))
            .add_service(front.before(publishing))
            .add_service(front.before(maintenance))
            .add_service(front.before(distribution))
            .add_service(front.before(cluster))
            .add_service(front.before(origin))
    }
}

/// What stands in front of every service.
struct Front {
    calls: Arc<Calls>,
    tokens: Arc<Tokens>,
}

impl Front {
    fn before<S>(&self, service: S) -> Gated<Bounded<S>> {
        let bounded = Bounded { inner: service, calls: Arc::clone(&self.calls) };
        Gated { inner: bounded, tokens: Arc::clone(&self.tokens) }
    }
}

/// A gRPC server that holds each connection to its bounds.
fn bounded_http2() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(FAULTY_STREAMS_MAX))
}

async fn sweep_refresh_tokens(refresh: Arc<RefreshTokens>) {
    loop {
        if let Err(error) = refresh.sweep().await {
            tracing::error!(%error, "expired refresh tokens could not be removed; the next turn tries again");
        }
        tokio::time::sleep(REFRESH_SWEEP_INTERVAL).await;
    }
}

impl From<SettleError> for MasterError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Identity(error) => Self::Library(error),
            SettleError::State(error) => Self::State(error),
            SettleError::Query(error) => Self::Query(error),
        }
    }
}

fn hashing(error: ServiceError) -> MasterError {
    MasterError::Hashing(error.to_string())
}
