# For the operator, who comes by Session Manager and becomes root: the way to the
# database for `punchclock` and `cockroach`.
if [ "$(id -u)" = 0 ]; then
	certs=/run/cockroach/certs
	export COCKROACH_CERTS_DIR=$certs COCKROACH_HOST=${address}:26257
	export PUNCHCLOCK_DATABASE_URL="postgres://root@${address}:26257/clock?sslmode=verify-full&sslrootcert=$certs/ca.crt&sslcert=$certs/client.root.crt&sslkey=$certs/client.root.key"
	unset certs
fi
