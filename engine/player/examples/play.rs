//! Plays a film as fast as it goes, and tells how fast that was and what came from where.
//!
//! `cargo run --release --package braidcast-player --example play -- film.mp4 [PICTURES]`

use std::error::Error;
use std::time::{Duration, Instant};

use braidcast_client::{Control, Profile};
use braidcast_player::{Player, PlayerOptions, Taken};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("usage: play NAME [PICTURES]")?;
    let most = std::env::args().nth(2).map_or(Ok(u32::MAX), |most| most.parse())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let control = runtime.block_on(Control::connect(&Profile::discover(None)?))?;
    let started = Instant::now();
    let player = runtime.block_on(Player::open(control, &name, PlayerOptions::default()))?;
    println!("opened after {:?}: {} x {}", started.elapsed(), player.film().width, player.film().height);
    let mut pictures = 0_u32;
    while pictures < most {
        match player.take()? {
            Taken::Picture(_) if pictures == 0 => {
                println!("first picture after {:?}", started.elapsed());
                pictures = 1;
            }
            Taken::Picture(_) => pictures += 1,
            Taken::Waiting => player.wait(Duration::from_secs(1)),
            Taken::End => break,
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{pictures} pictures in {seconds:.3} s: {:.1} a second", f64::from(pictures) / seconds);
    let stats = player.stats();
    for source in &stats.film.sources {
        println!("{}: {} bytes, {} lost", source.address, source.bytes, source.lost);
    }
    let closing = Instant::now();
    player.close();
    println!(
        "{} lists, {} redundant bytes; closed in {:?}",
        stats.film.lists,
        stats.film.redundant_bytes,
        closing.elapsed()
    );
    Ok(())
}
