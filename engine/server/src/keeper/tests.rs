use std::fs::File;
use std::os::unix::fs::FileExt;

use braidcast_media::pack::PackHeader;
use braidcast_proto::v1::{DropReason, HoldOrder};

use super::*;
use crate::config::JoinToken;

/// A keeper whose folder holds a whole pack of each of `assets`, all of them as long as the capacity allows.
struct World {
    keeper: Arc<Keeper>,
    pack_bytes: u64,
    _dir: tempfile::TempDir,
    _users: mpsc::Receiver<Infallible>,
}

fn header(asset: u64) -> PackHeader {
    let layout = PackLayout::of_file(10_000).expect("short file");
    let sealed_hashes = vec![[0; 32]; layout.extents() as usize];
    PackHeader { asset: AssetId(asset), layout, sealed_hashes }
}

fn order(asset: u64) -> Order {
    let header = header(asset);
    let bytes = header.to_bytes();
    let order = HoldOrder {
        asset,
        header_hash: braidcast_media::hashes::hash(&bytes).to_vec(),
        header_bytes: bytes.len() as u64,
        pack_bytes: header.layout.pack_bytes(),
    };
    order.try_into().expect("a sound order")
}

impl World {
    fn new(assets: &[u64], spare_for: Duration) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::open(dir.path()).expect("free folder");
        for &asset in assets {
            let header = header(asset);
            let file = File::create(folder.pack_path(AssetId(asset), Stage::Whole)).expect("new file");
            file.write_all_at(&header.to_bytes(), 0).expect("written");
            file.set_len(header.layout.pack_bytes()).expect("long enough");
        }
        let pack_bytes = header(1).layout.disk_bytes();
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate").cert.pem();
        let mut config = ServerConfig::new(dir.path(), "localhost:1", certificate, JoinToken::new("unused"));
        config.spare_for = spare_for;
        config.capacity_bytes = pack_bytes * assets.len() as u64;
        let master = Master::new(&config).expect("an address");
        let (user, users) = mpsc::channel(1);
        let (shelf, open_packs) = (Arc::default(), OpenPacks::new(8));
        let keeper = Keeper::open(folder, Bounds::of(&config), shelf, open_packs, master, user).expect("opens");
        Self { keeper, pack_bytes, _dir: dir, _users: users }
    }

    /// Asks for room for one more pack.
    fn make_room(&self) -> Result<(), FillError> {
        self.keeper.make_room(&mut self.keeper.lock(), AssetId(99), Need::of_new(self.pack_bytes))
    }

    fn assert_too_early(&self, asset: u64) {
        let refused = self.make_room();
        assert!(matches!(refused, Err(FillError::TooEarly { .. })), "{refused:?}");
        assert!(self.keeper.pack(AssetId(asset)).is_some());
    }
}

const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_spare_copy_goes_only_while_the_master_is_heard() {
    let world = World::new(&[1], Duration::ZERO);
    world.keeper.drop_asset(AssetId(1), DropReason::Surplus);
    world.assert_too_early(1);
    drop(world.keeper.on_heard());
    world.assert_too_early(1);
    let _heard = world.keeper.on_heard();
    world.make_room().expect("the copy goes");
    assert!(world.keeper.pack(AssetId(1)).is_none());
}

#[tokio::test]
async fn a_copy_that_has_been_spare_for_a_short_time_does_not_go() {
    let world = World::new(&[1], LONG);
    let _heard = world.keeper.on_heard();
    world.keeper.drop_asset(AssetId(1), DropReason::Surplus);
    world.assert_too_early(1);
}

#[tokio::test]
async fn a_copy_that_is_sent_to_the_origin_does_not_go() {
    let world = World::new(&[1], Duration::ZERO);
    let _heard = world.keeper.on_heard();
    world.keeper.drop_asset(AssetId(1), DropReason::Surplus);
    let pin = world.keeper.pin(AssetId(1)).expect("it is held");
    world.assert_too_early(1);
    drop(pin);
    world.make_room().expect("the copy goes");
}

#[tokio::test]
async fn a_push_begins_the_time_anew_for_which_a_copy_must_have_been_spare() {
    let world = World::new(&[1], LONG);
    world.keeper.drop_asset(AssetId(1), DropReason::Surplus);
    let since = || world.keeper.lock()[&AssetId(1)].spare.expect("spare");
    let before = since();
    drop(world.keeper.pin(AssetId(1)));
    assert!(since() > before);
}

#[tokio::test]
async fn an_order_to_hold_a_spare_copy_takes_the_mark_away_at_once() {
    let world = World::new(&[1], Duration::ZERO);
    let _heard = world.keeper.on_heard();
    world.keeper.drop_asset(AssetId(1), DropReason::Surplus);
    world.keeper.hold(order(1));
    let refused = world.make_room();
    assert!(matches!(refused, Err(FillError::Capacity { .. })), "{refused:?}");
    assert!(world.keeper.pack(AssetId(1)).is_some());
}

/// The mechanism of a server that is stuck: the disk refuses to take more, and copies that may go are left standing.
#[tokio::test]
async fn a_fill_that_meets_a_full_disk_makes_room_and_one_that_can_make_none_says_so() {
    let world = World::new(&[1], Duration::ZERO);
    let _heard = world.keeper.on_heard();
    let wanted = Arc::new(order(2));
    world.keeper.lock().insert(wanted.asset, Entry { order: Some(Arc::clone(&wanted)), ..Entry::wanted() });
    let refused = world.keeper.on_disk_full(&wanted);
    assert!(matches!(refused, Err(FillError::DiskFull { .. })), "{refused:?}");
    world.keeper.drop_asset(AssetId(1), DropReason::Surplus);
    world.keeper.on_disk_full(&wanted).expect("the spare copy goes");
    assert!(world.keeper.pack(AssetId(1)).is_none());
}
