//! The clips: each made once by the `ffmpeg` program, and kept in the target directory under the arguments it came from.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use Recipe::{Edited, Encoded, Joined};

/// A clip, and what its container does with access units.
pub(crate) struct Clip {
    pub(crate) name: &'static str,
    extension: &'static str,
    recipe: Recipe,
    /// The stream that its frames have to come out in.
    pub(crate) frames_stream: u32,
    /// Its tracks, by kind: video, audio, subtitles.
    pub(crate) tracks: [usize; 3],
}

enum Recipe {
    /// Two seconds of moving pictures of this size, and two sines, encoded so.
    Encoded(&'static str, &'static str),
    /// Another clip with options before and after `-i`.
    Edited(&'static str, &'static str, &'static str),
    /// Two clips, one behind the other, byte for byte.
    Joined(&'static str, &'static str),
}

const fn clip(
    name: &'static str,
    extension: &'static str,
    frames_stream: u32,
    tracks: [usize; 3],
    recipe: Recipe,
) -> Clip {
    Clip { name, extension, recipe, frames_stream, tracks }
}

/// Every clip. The names of the inputs of an encoding: 0 is video, 1 and 2 are audio, 3 is subtitles.
#[rustfmt::skip]
pub(crate) const CLIPS: &[Clip] = &[
    clip("h264 with B-frames and two audio tracks", "mp4", 0, [1, 2, 0], Encoded("176x144",
        "-map 0:v -map 1:a -map 2:a -c:v libx264 -bf 3 -g 12 -c:a aac -metadata:s:a:1 language=deu")),
    clip("prores and pcm", "mov", 0, [1, 1, 0], Encoded("128x96", "-map 0:v -map 1:a -c:v prores -c:a pcm_s16le")),
    clip("h265 with open groups of pictures", "mp4", 0, [1, 0, 0], Encoded("128x96",
        "-map 0:v -c:v libx265 -x265-params log-level=none:open-gop=1:keyint=12:bframes=3")),
    clip("edit list that cuts", "mp4", 0, [1, 2, 0], Edited("h264 with B-frames and two audio tracks", "-ss 0.7", "-map 0 -c copy")),
    clip("edit list that delays", "mp4", 0, [1, 0, 0], Edited("h264 with B-frames and two audio tracks", "-itsoffset 1.5", "-map 0:v -c copy")),
    clip("variable frame rate", "mp4", 0, [1, 1, 0], Encoded("128x96",
        "-map 0:v -map 1:a -vf setpts=N*N/50/TB/25 -fps_mode passthrough -enc_time_base 1/1000 -c:v libx264 -c:a aac")),
    clip("mpeg4 and mp3", "avi", 0, [1, 1, 0], Encoded("128x96", "-map 0:v -map 1:a -c:v mpeg4 -bf 2 -c:a libmp3lame")),
    clip("mjpeg", "avi", 0, [1, 0, 0], Encoded("128x96", "-map 0:v -c:v mjpeg")),
    clip("vorbis, flac and opus", "mkv", 4, [1, 3, 0], Encoded("128x96",
        "-map 0:v -map 1:a -map 1:a -map 2:a -c:v libx264 -c:a:0 libvorbis -c:a:1 flac -c:a:2 libopus")),
    clip("vp8 with hidden frames", "webm", 4, [1, 0, 0], Encoded("128x96",
        "-map 0:v -c:v libvpx -b:v 200k -auto-alt-ref 1 -lag-in-frames 10 -arnr-maxframes 5 -deadline good -cpu-used 4")),
    clip("vp9 and opus", "webm", 4, [1, 1, 0], Encoded("128x96",
        "-map 0:v -map 1:a -c:v libvpx-vp9 -b:v 200k -auto-alt-ref 1 -lag-in-frames 10 -cpu-used 6 -c:a libopus")),
    clip("av1", "mkv", 4, [1, 0, 0], Encoded("128x96", "-map 0:v -c:v libaom-av1 -cpu-used 8 -row-mt 0 -g 20")),
    clip("h264, ac3 and mp2", "ts", 4, [1, 2, 0], Encoded("128x96",
        "-map 0:v -map 1:a -map 2:a -c:v libx264 -bf 2 -c:a:0 ac3 -c:a:1 mp2")),
    clip("mpeg2 and mp2", "vob", 4, [1, 1, 0], Encoded("128x96", "-map 0:v -map 1:a -c:v mpeg2video -bf 2 -c:a mp2 -f vob")),
    clip("mpeg1", "mpg", 4, [1, 1, 0], Encoded("128x96", "-map 0:v -map 1:a -c:v mpeg1video -c:a mp2 -f mpeg")),
    clip("fragments", "mp4", 0, [1, 1, 0], Encoded("128x96",
        "-map 0:v -map 1:a -c:v libx264 -g 12 -c:a aac -movflags frag_keyframe+empty_moov")),
    clip("h265 of 10 bits", "mp4", 0, [1, 0, 0], Encoded("128x96",
        "-map 0:v -pix_fmt yuv420p10le -c:v libx265 -x265-params log-level=none")),
    clip("odd size", "mkv", 4, [1, 0, 0], Encoded("102x78", "-map 0:v -vf format=yuv420p,crop=101:77:exact=1 -c:v libvpx-vp9 -b:v 200k -cpu-used 6")),
    clip("odd size of full chroma", "mp4", 0, [1, 0, 0], Encoded("102x78", "-map 0:v -vf format=yuv444p,crop=101:77:exact=1 -pix_fmt yuv444p -c:v libx264")),
    clip("one key frame", "mp4", 0, [1, 0, 0], Encoded("128x96", "-map 0:v -c:v libx264 -g 999 -sc_threshold 0")),
    clip("key frames only", "mp4", 0, [1, 0, 0], Encoded("128x96", "-map 0:v -c:v libx264 -g 1")),
    clip("small h264", "ts", 4, [1, 0, 0], Encoded("64x48", "-map 0:v -c:v libx264")),
    clip("large h264", "ts", 4, [1, 0, 0], Encoded("128x96", "-map 0:v -c:v libx264 -output_ts_offset 2")),
    clip("size that changes", "ts", 4, [1, 0, 0], Joined("small h264", "large h264")),
    clip("turned by a quarter", "mp4", 0, [1, 0, 0], Edited("one key frame", "", "-map 0 -c copy -metadata:s:v rotate=90")),
    clip("subtitles of mp4", "mp4", 0, [1, 1, 1], Encoded("128x96", "-map 0:v -map 1:a -map 3 -c:v libx264 -c:a aac -c:s mov_text")),
    clip("subtitles of matroska", "mkv", 4, [1, 0, 1], Encoded("128x96", "-map 0:v -map 3 -c:v libx264 -c:s srt")),
    clip("h264 in a transport stream with B-frames", "ts", 4, [1, 0, 0], Encoded("320x180", "-map 0:v -c:v libx264 -bf 3 -g 15")),
];

const SUBTITLES: &str = "1\n00:00:00,200 --> 00:00:00,900\nfirst\n\n2\n00:00:01,000 --> 00:00:01,800\nsecond\n";

pub(crate) fn find(name: &str) -> &'static Clip {
    CLIPS.iter().find(|clip| clip.name == name).unwrap_or_else(|| panic!("no clip is called {name}"))
}

impl Clip {
    /// The clip's file, which is made now if it never was.
    pub(crate) fn path(&self) -> PathBuf {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.make()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).expect("the clip was just made")
    }

    fn make(&self) -> PathBuf {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clips");
        fs::create_dir_all(&directory).expect("the target directory takes files");
        let path = directory.join(format!("{:016x}.{}", self.key(), self.extension));
        if path.exists() {
            return path;
        }
        let unfinished = directory.join(format!("{}-{:016x}.{}", std::process::id(), self.key(), self.extension));
        match &self.recipe {
            Encoded(size, options) => encode(size, options, &directory, &unfinished),
            Edited(of, before, after) => {
                let input = find(of).make();
                run(words(before).arg("-i").arg(input).args(after.split_whitespace()).arg(&unfinished));
            }
            Joined(first, second) => {
                let parts = [first, second].map(|part| fs::read(find(part).make()).expect("just made"));
                fs::write(&unfinished, parts.concat()).expect("the target directory takes files");
            }
        }
        fs::rename(&unfinished, &path).expect("same directory");
        path
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.extension.hash(&mut hasher);
        match &self.recipe {
            Encoded(size, options) => ("two passes for hidden frames", size, options, SUBTITLES).hash(&mut hasher),
            Edited(of, before, after) => (find(of).key(), before, after).hash(&mut hasher),
            Joined(first, second) => (find(first).key(), find(second).key()).hash(&mut hasher),
        }
        hasher.finish()
    }
}

fn encode(size: &str, options: &str, directory: &Path, out: &Path) {
    let subtitles = directory.join("subtitles.srt");
    fs::write(&subtitles, SUBTITLES).expect("the target directory takes files");
    let mut command = words("-f lavfi -i");
    command.arg(format!("testsrc2=size={size}:rate=25:duration=2"));
    for tone in [440, 880] {
        command.args(["-f", "lavfi", "-i"]).arg(format!("sine=frequency={tone}:duration=2"));
    }
    command.arg("-i").arg(subtitles);
    if !options.contains("-pix_fmt") && !options.contains("prores") && !options.contains("mjpeg") {
        command.args(["-pix_fmt", "yuv420p"]);
    }
    command.args(options.split_whitespace()).arg("-shortest");
    if options.contains("-auto-alt-ref") {
        // libvpx makes hidden frames in the second of two passes only.
        let log = out.with_extension("pass");
        command.arg("-passlogfile").arg(&log);
        run(again(&command).args(["-pass", "1", "-f", "null", "-"]));
        command.args(["-pass", "2"]);
    }
    run(command.arg(out));
}

fn again(command: &Command) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(command.get_args());
    other
}

fn words(options: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(options.split_whitespace());
    command
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the ffmpeg program is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
