//! The machine's own package settings during a build: apt, pip, npm, proxies and certificates are
//! used as they are, and nothing of them comes into an image.
//!
//! apt runs on the machine itself, outside of the image, so it has its settings anyway. pip and npm
//! run inside. What they need is copied to, or mounted below, [`INSIDE`], which is never part of a
//! layer; where a setting names a path of the machine (a certificate, a folder of wheels), the path
//! is mounted there, read-only, and the copy of the setting names the new place.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the settings are while something runs inside an image that is being built.
pub(crate) const INSIDE: &str = "/run/fermion-build";
/// Debian's bundle of certificates, with those that this machine's administrator added.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Variables that name the bundle, for the programs that do not look where Debian has it.
const CERTIFICATE_VARIABLES: &[&str] = &["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
const PROXY_VARIABLES: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];
/// What every system has at its root.
const SYSTEM_FOLDERS: &[&str] = &[
    "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr",
    "var",
];
/// The longest file of settings that is read.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// What can stand around a path in a setting.
const SEPARATORS: &[char] = &[' ', '\t', '\r', '\n', '=', '"', '\'', ',', ';'];

/// What is done about the machine's settings in one build.
#[derive(Debug, Default)]
pub(crate) struct HostSettings {
    /// The variables for programs inside.
    pub(crate) env: BTreeMap<String, String>,
    /// Files to write below [`INSIDE`], by their path there.
    pub(crate) files: BTreeMap<PathBuf, String>,
    /// Paths of the machine and where they are mounted below [`INSIDE`].
    pub(crate) mounts: BTreeMap<PathBuf, PathBuf>,
}

impl HostSettings {
    /// Looks at the machine as the server runs on it.
    pub(crate) fn of_this_machine() -> Self {
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        Self::gather(std::env::vars_os(), Path::new("/etc"), &home, Path::exists)
    }

    fn gather(variables: impl Iterator<Item = (OsString, OsString)>, etc: &Path, home: &Path, exists: impl Fn(&Path) -> bool) -> Self {
        let variables: BTreeMap<String, String> =
            variables.filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect();
        let mut settings = Self::default();
        for (key, value) in variables.iter().filter(|(key, _)| is_package_variable(key)) {
            let value = settings.moved_inside(value, &exists);
            settings.env.insert(key.clone(), value);
        }
        if exists(Path::new(CERTIFICATES)) {
            let inside = settings.moved_inside(CERTIFICATES, &exists);
            for key in CERTIFICATE_VARIABLES {
                settings.env.entry((*key).to_owned()).or_insert_with(|| inside.clone());
            }
        }
        let configuration = variables.get("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
        for (file, place) in [
            (etc.join("pip.conf"), "xdg/pip/pip.conf"),
            (home.join(".pip/pip.conf"), "home/.pip/pip.conf"),
            (configuration.join("pip/pip.conf"), "home/.config/pip/pip.conf"),
            (home.join(".npmrc"), "home/.npmrc"),
            (home.join(".netrc"), "home/.netrc"),
        ] {
            settings.copy(&file, place, &exists);
        }
        for key in ["PIP_CONFIG_FILE", "NPM_CONFIG_USERCONFIG", "npm_config_userconfig"] {
            if let Some(file) = variables.get(key) {
                let place = format!("named/{key}");
                if settings.copy(Path::new(file), &place, &exists) {
                    settings.env.insert(key.to_owned(), format!("{INSIDE}/{place}"));
                }
            }
        }
        // No cache of the machine's is written to, and none is left behind.
        settings.env.insert("PIP_NO_CACHE_DIR".to_owned(), "1".to_owned());
        settings.env.insert("npm_config_cache".to_owned(), "/tmp/npm".to_owned());
        settings.env.insert("XDG_CONFIG_DIRS".to_owned(), format!("{INSIDE}/xdg"));
        settings.env.insert("HOME".to_owned(), format!("{INSIDE}/home"));
        settings.env.insert("LANG".to_owned(), "C.UTF-8".to_owned());
        // A path inside of another one comes with it.
        let all: BTreeSet<PathBuf> = settings.mounts.keys().cloned().collect();
        settings.mounts.retain(|path, _| !path.ancestors().skip(1).any(|above| all.contains(above)));
        settings
    }

    /// Takes over one file of settings, if it is there and can be read.
    fn copy(&mut self, file: &Path, place: &str, exists: &impl Fn(&Path) -> bool) -> bool {
        let short = fs::metadata(file).is_ok_and(|data| data.is_file() && data.len() <= SETTINGS_BYTES_MAX);
        let Some(text) = short.then(|| fs::read_to_string(file).ok()).flatten() else {
            return false;
        };
        let text = self.moved_inside(&text, exists);
        self.files.insert(PathBuf::from(place), text);
        true
    }

    /// The text with each path of this machine replaced by where it will be mounted.
    fn moved_inside(&mut self, text: &str, exists: &impl Fn(&Path) -> bool) -> String {
        let mut moved = String::with_capacity(text.len());
        for piece in text.split_inclusive(SEPARATORS) {
            let (word, separator) = match piece.char_indices().next_back() {
                Some((end, last)) if SEPARATORS.contains(&last) => piece.split_at(end),
                _ => (piece, ""),
            };
            let (scheme, path) = match word.strip_prefix("file://") {
                Some(path) => ("file://", path),
                None => ("", word),
            };
            moved.push_str(scheme);
            if is_specific(path) && exists(Path::new(path)) {
                let inside = format!("{INSIDE}/machine{path}");
                moved.push_str(&inside);
                self.mounts.insert(PathBuf::from(path), PathBuf::from(inside));
            } else {
                moved.push_str(path);
            }
            moved.push_str(separator);
        }
        moved
    }
}

/// Whether a word is a path to something in particular. `/usr` and the like name the place where a
/// system has its things, and mean the image's own.
fn is_specific(word: &str) -> bool {
    let mut parts = word.split('/').filter(|part| !part.is_empty());
    let first = parts.next();
    let lone_system_folder = parts.next().is_none() && first.is_none_or(|name| SYSTEM_FOLDERS.contains(&name));
    word.starts_with('/') && !lone_system_folder && !word.split('/').any(|part| part == "..")
}

/// Whether a variable of the server's is for programs that fetch packages.
fn is_package_variable(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    key.starts_with("PIP_")
        || lower.starts_with("npm_config_")
        || PROXY_VARIABLES.contains(&lower.as_str())
        || CERTIFICATE_VARIABLES.contains(&key)
        || key == "SSL_CERT_DIR"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(variables: &[(&str, &str)], home: &Path, existing: &[&str]) -> HostSettings {
        let variables = variables.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
        HostSettings::gather(variables, &home.join("etc"), home, |path| existing.iter().any(|known| Path::new(known) == path))
    }

    #[test]
    fn paths_in_variables_are_mounted_and_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            gather(&[("PIP_FIND_LINKS", "/srv/wheels https://x.test/ file:///srv/more")], folder.path(), &["/srv/wheels", "/srv/more"]);
        assert_eq!(
            settings.env["PIP_FIND_LINKS"],
            "/run/fermion-build/machine/srv/wheels https://x.test/ file:///run/fermion-build/machine/srv/more"
        );
        assert_eq!(settings.mounts.len(), 2);
    }

    #[test]
    fn a_path_inside_of_a_mounted_one_is_not_mounted_again() {
        let folder = tempfile::tempdir().unwrap();
        let variables = [("SSL_CERT_DIR", "/srv/certs"), ("PIP_CERT", "/srv/certs/own.pem"), ("npm_config_prefix", "/usr")];
        let settings = gather(&variables, folder.path(), &["/srv/certs", "/srv/certs/own.pem", "/usr"]);
        assert_eq!(settings.mounts.keys().collect::<Vec<_>>(), [Path::new("/srv/certs")]);
        assert_eq!(settings.env["npm_config_prefix"], "/usr");
    }

    #[test]
    fn only_what_fetching_packages_needs_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let settings = gather(&[("HTTPS_PROXY", "http://proxy"), ("SECRET_TOKEN", "x"), ("PYTHONPATH", "/x")], folder.path(), &[]);
        assert_eq!(settings.env["HTTPS_PROXY"], "http://proxy");
        assert!(!settings.env.contains_key("SECRET_TOKEN") && !settings.env.contains_key("PYTHONPATH"));
    }

    #[test]
    fn certificates_are_told_to_programs_that_would_not_find_them() {
        let folder = tempfile::tempdir().unwrap();
        let settings = gather(&[("PIP_CERT", "/own.pem")], folder.path(), &[CERTIFICATES, "/own.pem"]);
        assert_eq!(settings.env["PIP_CERT"], "/run/fermion-build/machine/own.pem");
        assert_eq!(settings.env["SSL_CERT_FILE"], format!("{INSIDE}/machine{CERTIFICATES}"));
    }

    #[test]
    fn files_of_settings_are_copied_with_their_paths_renamed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("etc")).unwrap();
        fs::write(folder.path().join("etc/pip.conf"), "[global]\ncert = /ca.pem\nindex-url=https://mirror.test/simple\n").unwrap();
        let settings = gather(&[], folder.path(), &["/ca.pem"]);
        assert_eq!(
            settings.files[Path::new("xdg/pip/pip.conf")],
            "[global]\ncert = /run/fermion-build/machine/ca.pem\nindex-url=https://mirror.test/simple\n"
        );
    }
}
