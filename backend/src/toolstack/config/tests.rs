//! Files that xl reads, and files that it does not.

use super::*;

fn parse(text: impl AsRef<[u8]>) -> Result<Config, ConfigError> {
    Config::parse(Path::new("guest.cfg"), text.as_ref().to_vec(), &[])
}

fn items(config: &Config) -> Vec<String> {
    config.devices.iter().map(DeviceSpec::to_string).collect()
}

/// A configuration as people have it, with every kind of thing that xl knows.
const WHOLE: &str = r#"# A guest
name = 'web "1"'   # quotes in quotes
type="pv"; memory = 0x400; vcpus=2
kernel = "/boot/vmlinuz"
extra = "root=/dev/sda \"quoted\" # no comment"
disk = [ 'phy:/dev/vg/web,xvda,w', "file:/srv/a.img,xvdb,r", ]
vif = [ "mac=00:16:3e:00:00:01,bridge=xenbr0" ]
device_model_args_hvm = [ [ "a", 'b' ], 3, [] ]
vuart.x_1 = 1

vscsi = [
    "/dev/disk/by-id/scsi-35000c50, 0:0:0:0",   # the first

    '8:0:2:1,0:0:0:1,ro',
    "ram:64M,1:0:0:0 , feature-host"
    ,
]
vscsi += [ "file:/srv/[a]#;.img,0:0:0:2,shared" ]
on_crash = "destroy"
"#;

#[test]
fn a_whole_file_is_read() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.name.as_deref(), Some("web \"1\""));
    assert_eq!(
        items(&config),
        [
            "/dev/disk/by-id/scsi-35000c50,0:0:0:0",
            "8:0:2:1,0:0:0:1,ro",
            "ram:64M,1:0:0:0,feature-host",
            "file:/srv/[a]#;.img,0:0:0:2,shared"
        ]
    );
}

#[test]
fn what_xl_reads_is_read_alike() {
    let one = r#""8:0:0:0,0:0:0:0""#;
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("\n\n;;\n # only this\n", &[]),
        ("memory=512", &[]),
        ("vscsi=[]", &[]),
        ("vscsi = [ \n\n ]", &[]),
        ("vscsi=[ONE]", &["8:0:0:0,0:0:0:0"]),
        ("vscsi=[ONE,]", &["8:0:0:0,0:0:0:0"]),
        ("vscsi\t=\t[\tONE\n,\n\n]\t", &["8:0:0:0,0:0:0:0"]),
        ("vscsi=[#why\nONE#not\n]#so\n", &["8:0:0:0,0:0:0:0"]),
        ("name='a';vscsi=[ONE];memory=1", &["8:0:0:0,0:0:0:0"]),
        // The last one counts.
        ("vscsi=['ram:1M,3:0:0:0']\nvscsi=[ONE]", &["8:0:0:0,0:0:0:0"]),
        ("vscsi='8:0:0:0,0:0:0:0'\nvscsi=[ONE]", &["8:0:0:0,0:0:0:0"]),
        ("vscsi=[ONE]\nvscsi=[]", &[]),
        ("vscsi+=[ONE]", &["8:0:0:0,0:0:0:0"]),
        ("vscsi=[ONE]\nvscsi+=['ram:1M,0:0:0:1']", &["8:0:0:0,0:0:0:0", "ram:1M,0:0:0:1"]),
        ("vscsi=[ONE]\nvscsi+=[]", &["8:0:0:0,0:0:0:0"]),
        (r#"vscsi=["/dev/a\"'b\\,0:0:0:0"]"#, &[r#"/dev/a"'b\,0:0:0:0"#]),
        ("vscsi=['8:0:0:0\\t,\\t0:0:0:0\\n']", &["8:0:0:0,0:0:0:0"]),
        ("vscsi=['/dev/\u{e4},0:0:0:0']", &["/dev/\u{e4},0:0:0:0"]),
        // One item of a list is a string, whatever the others are for.
        ("x=[[[1,[2]],'3'],\n4\n,]\nvscsi=[ONE]", &["8:0:0:0,0:0:0:0"]),
        ("xvscsi=['nothing']\nvscsi_=1\nvscsi.x=[1]", &[]),
        ("a=08\nb=0x1f\nc=1", &[]),
        // A comment is the only place for a carriage return.
        ("# dos\r\nvscsi=[ONE]", &["8:0:0:0,0:0:0:0"]),
    ];
    for (text, expected) in cases {
        let config = parse(text.replace("ONE", one)).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(items(&config), *expected, "{text:?}");
    }
    // Names are bytes to xl, and not ours to judge in other keys.
    let config = parse(b"builder='\xff'\nvscsi=['8:0:0:0,0:0:0:0']").unwrap();
    assert_eq!(items(&config), ["8:0:0:0,0:0:0:0"]);
}

#[test]
fn names_are_read_as_xl_does() {
    for (text, name) in [
        ("name='a'\nname=\"b\"", Some("b")),
        ("name='a'\nname+='b'", Some("ab")),
        ("name=7", Some("7")),
        ("name=''", Some("")),
        ("names='a'", None),
    ] {
        assert_eq!(parse(text).unwrap().name.as_deref(), name, "{text:?}");
    }
}

/// Each error names the file, the line and what is wrong there.
#[test]
fn what_is_wrong_is_said() {
    let cases: &[(&str, &str)] = &[
        // What xl refuses as well.
        ("vscsi", "guest.cfg:1: = or += is expected, not the end of the file"),
        ("vscsi=", "guest.cfg:1: a \"string\", a number or a [ list ] is expected, not the end of the file"),
        (
            "\nvscsi=\n[]",
            "guest.cfg:2: a \"string\", a number or a [ list ] is expected, not the end of the line",
        ),
        ("\n\nvscsi=[", "guest.cfg:3: a \"string\""),
        ("vscsi=[1 2]", "guest.cfg:1: a comma or ] is expected, not \"2\""),
        ("vscsi=[1;2]", "guest.cfg:1: a comma or ] is expected, not ;"),
        ("vscsi=[\n'a'\n'b']", "guest.cfg:3: a comma or ] is expected, not \"b\""),
        ("vscsi=[,]", "guest.cfg:1: a \"string\", a number or a [ list ] is expected, not ,"),
        ("vscsi=['a',,]", "expected, not ,"),
        ("vscsi=[]]", "the end of the line is expected, not ]"),
        ("vscsi=[] x=1", "the end of the line is expected, not x"),
        ("vscsi=['a','b'", "a comma or ] is expected, not the end of the file"),
        ("vscsi=8:0:0:0", "the end of the line is expected, not :"),
        ("vscsi=[8:0:0:0,0:0:0:0]", "a comma or ] is expected, not :"),
        ("name=web", "a \"string\", a number or a [ list ] is expected, not web"),
        ("name=True", "is expected, not T"),
        ("Name='web'", "a key is expected, not N"),
        ("=1", "a key is expected, not ="),
        ("'name'=1", "a key is expected, not \"name\""),
        ("a==1", "is expected, not ="),
        ("a-=1", "= or += is expected, not -"),
        ("a+1", "= or += is expected, not +"),
        ("a=1 # why", "guest.cfg:1: this comment has no end"),
        ("\nname='web", "guest.cfg:2: this string has no end"),
        ("name='web\n'", "guest.cfg:1: this string has no end"),
        ("name='web\\\n'", "this string has no end"),
        ("name='web\"", "this string has no end"),
        ("name='\\", "this string has no end"),
        ("name='\\q'", "guest.cfg:1: \\q is no escape"),
        ("name='\\x41'", "\\x: escapes with numbers"),
        ("name='\\101'", "\\1: escapes with numbers"),
        ("name='a\0b'", "a zero byte"),
        ("a=1\r\nb=2\r\n", "guest.cfg:1: the end of the line is expected, not a carriage return"),
        ("a=1\n\x1b[31m", "guest.cfg:2: a key is expected, not \\x1b"),
        ("def f():\n", "= or += is expected, not f"),
        ("vscsi=['a']\nvscsi+='b'", "guest.cfg:2: += adds a list to a list or a string to a string; vscsi"),
        ("a=1\na+=[]", "+= adds"),
        // What SUSE's xl passes over or refuses.
        (
            "\nvscsi='8:0:0:0,0:0:0:0'",
            "guest.cfg:2: vscsi is a list, also with one device; write vscsi = [ \"8:0:0:0,0:0:0:0\" ]",
        ),
        ("vscsi=8", "write vscsi = [ \"8\" ]"),
        ("vscsi=[\n['8:0:0:0,0:0:0:0']]", "guest.cfg:2: item 1 of vscsi: this is a list"),
        ("vscsi=[8]", "guest.cfg:1: item 1 of vscsi: \"8\" is not of the form pdev,vdev"),
        (
            "vscsi=['ram:1M,0:0:0:0',\n'sda,0:0:0:1']",
            "guest.cfg:2: item 2 of vscsi: pdev \"sda\" names no device",
        ),
        ("vscsi=['ram:1M,0:0:0']", "item 1 of vscsi: vdev \"0:0:0\" is not of the form"),
        ("vscsi=['ram:1M,0:0:0:0,rw']", "item 1 of vscsi: option \"rw\" is not known"),
        (
            "vscsi=['ram:1M,0:0:0:0',\n'ram:2M,1:0:0:0',\n'ram:3M,0:0:0:0']",
            "guest.cfg:3: item 3 of vscsi: vdev 0:0:0:0 is that of item 1 as well",
        ),
        (
            "vscsi=['ram:1M,0:0:0:0']\nvscsi+=['ram:3M,0:0:0:1,feature-host']",
            "guest.cfg:2: item 2 of vscsi: feature-host differs from that of item 1; all devices of host 0",
        ),
        // A bell is read as one, and is in no name of a device.
        (r"vscsi=['/dev/\'\\\a,0:0:0:0']", r#"item 1 of vscsi: pdev "/dev/'\\\u{7}" names no device"#),
        ("\nname=['web']", "guest.cfg:2: name is no string"),
    ];
    for (text, words) in cases {
        let error = match parse(text) {
            Ok(config) => panic!("{text:?} is {config:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(words), "{text:?}: {words:?} is not in {error:?}");
        assert!(error.starts_with("guest.cfg:"), "{error:?}");
        assert!(!error.contains(char::is_control), "{text:?}: {error:?}");
    }
    for text in [&b"name='\xff'"[..], b"vscsi=['\xff,0:0:0:0']"] {
        assert!(parse(text).unwrap_err().to_string().contains("UTF-8"));
    }
}

#[test]
fn the_command_line_follows_the_file() {
    let file = b"name = 'web'\nvscsi = [ '8:0:0:0,0:0:0:0' ]\n";
    let read = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().copied().map(String::from).collect();
        Config::parse(Path::new("guest.cfg"), file.to_vec(), &settings)
    };
    let config = read(&["name='db'", "vscsi+=['ram:1M,0:0:0:1']", "memory=1"]).unwrap();
    assert_eq!(config.name.as_deref(), Some("db"));
    assert_eq!(items(&config), ["8:0:0:0,0:0:0:0", "ram:1M,0:0:0:1"]);
    for (setting, words) in [
        ("name=db", "key=value of the command line: a \"string\""),
        (
            "vscsi+=['ram:1M,0:0:0:0']",
            "key=value of the command line: item 2 of vscsi: vdev 0:0:0:0 is that of item 1",
        ),
    ] {
        let error = read(&[setting]).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
    // xl's own end of line closes a comment of the file.
    let open = Config::parse(Path::new("guest.cfg"), b"name='a' # why".to_vec(), &["x=1".into()]).unwrap();
    assert_eq!(open.name.as_deref(), Some("a"));
    let wrong = Config::parse(Path::new("guest.cfg"), b"name='a".to_vec(), &["x=1".into()]).unwrap_err();
    assert!(wrong.to_string().starts_with("guest.cfg:1: "), "{wrong}");
}

#[test]
fn devices_stand_on_lines_as_well() {
    let read = |text: &str| devices(Path::new("list"), text.into());
    for text in ["", "\n # nothing\n", "name = 'web'", "memory=1;", ";vscsi=[]", "v.x_1 += 2"] {
        assert_eq!(read(text).unwrap(), [], "{text:?}");
    }
    let lines = read("# two\r\n\n 8:0:0:0 , 0:0:0:0,ro \n/dev/a=b,1:0:0:0\r\nfile:/a,2:0:0:0").unwrap();
    let texts: Vec<String> = lines.iter().map(DeviceSpec::to_string).collect();
    assert_eq!(texts, ["8:0:0:0,0:0:0:0,ro", "/dev/a=b,1:0:0:0", "file:/a,2:0:0:0"]);
    let config = read(WHOLE).unwrap();
    assert_eq!(config, parse(WHOLE).unwrap().devices);
    for (text, words) in [
        ("# a\nram:1M,0:0:0:0\n\nram:1M", "list:4: item 2 of vscsi: \"ram:1M\" is not of the form"),
        ("ram:1M,0:0:0:0\n#\nram:2M,0:0:0:0", "list:3: item 2 of vscsi: vdev 0:0:0:0 is that of item 1"),
        ("ram:1M,0:0:0:0\nvscsi=[]", "list:2: item 2 of vscsi: \"vscsi=[]\" is not of the form"),
        ("vscsi=[]\nram:1M,0:0:0:0", "list:2: = or += is expected, not :"),
        ("'ram:1M,0:0:0:0'", "list:1: item 1 of vscsi: pdev \"'ram:1M\" names no device"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.starts_with(words), "{text:?}: {error}");
    }
}

#[test]
fn sizes_have_limits() {
    let deep = |depth: usize| format!("x={}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(parse(deep(64)).unwrap(), Config::default());
    assert!(parse(deep(65)).unwrap_err().to_string().contains("nested"));
    let error = parse(["x=".as_bytes(), &vec![b'['; 1 << 19]].concat()).unwrap_err();
    assert!(error.to_string().contains("nested"), "{error}");
    assert!(parse(vec![b'\n'; 1 << 20]).is_ok());
    assert!(matches!(Config::read(Path::new("/dev/zero"), &[]), Err(ConfigError::Long(_))));
    assert!(matches!(Config::read(Path::new("/no/such"), &[]), Err(ConfigError::Read { .. })));
    // Tens of thousands of devices are compared with each other in no time.
    let many: String = (0..40_000).map(|n| format!("'ram:1M,{}:0:0:{}',", n / 256, n % 256)).collect();
    assert_eq!(parse(format!("vscsi=[{many}]")).unwrap().devices.len(), 40_000);
}
