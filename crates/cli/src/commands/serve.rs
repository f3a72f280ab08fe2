//! `ml serve`

use bailiwick_server::ServeFlags;

use crate::args::Serve;
use crate::failure::{Failure, Result};

pub fn run(flags: Serve) -> Result<()> {
    let flags = ServeFlags {
        config: flags.config,
        data: flags.data,
        listen: flags.listen,
        database: flags.database,
        admin_password_file: flags.admin_password_file,
        tls_cert: flags.tls_cert,
        tls_key: flags.tls_key,
        behind_proxy: flags.behind_proxy,
        no_agent: flags.no_agent,
        public_url: flags.public_url,
        access: flags.access,
        lease_time: flags.lease_time,
        seats: flags.seats,
        set: flags.set,
    };
    bailiwick_server::serve(flags).map_err(Failure::new)
}
