package crdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The accounts, which log in by their certificates. On PostgreSQL they belong
// to the whole server, so several databases share them.
const (
	NodeRole     = "punchclock_node"     // nodes
	OperatorRole = "punchclock_operator" // `punchclock company`, `punchclock audit`
	MigratorRole = "punchclock_migrator" // `punchclock migrate`; owns the database and its tables
)

// grant is what a role may do with some tables.
type grant struct {
	role       string
	privileges string
	tables     string
}

// grants are all that the node's and the operator's role may do. Nobody but the
// migrator can change or remove a punch.
var grants = []grant{
	{NodeRole, "SELECT, INSERT", "punches"},
	{NodeRole, "SELECT", "companies, homes, goose_db_version"},
	{NodeRole, "SELECT, INSERT, UPDATE", "controls"},

	{OperatorRole, "SELECT, INSERT", "companies, homes"},
	{OperatorRole, "SELECT", "punches, controls, goose_db_version"},
}

// limited are the roles that have the rights in grants and no others.
var limited = []string{NodeRole, OperatorRole}

// lockGrant lets nodes lock the fence on PostgreSQL, where FOR SHARE takes the
// right to update a column, whichever it is. This is the one whose change
// neither opens nor shuts the fence. CockroachDB is not asked to lock, see
// insertSQL: there the right would be for the whole row.
const lockGrant = `GRANT UPDATE (moving_from) ON homes TO ` + NodeRole

// prepareRoles makes the accounts and hands the database to the migrator, when
// the caller is an administrator, and lets conn go on as the migrator. Others
// must find it done.
func prepareRoles(ctx context.Context, conn *pgx.Conn, engine Engine) error {
	var admin bool
	if err := conn.QueryRow(ctx, `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&admin); err != nil {
		return fmt.Errorf("ask who this is: %w", err)
	}
	var statements []string
	for _, role := range append([]string{MigratorRole}, limited...) {
		var there bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, role).Scan(&there); err != nil {
			return fmt.Errorf("ask for role %s: %w", role, err)
		}
		if there {
			continue
		}
		if !admin {
			return fmt.Errorf("the role %s is not there: run `punchclock migrate` once as the database's administrator", role)
		}
		statements = append(statements, `CREATE ROLE `+role+` LOGIN`)
	}
	if !admin {
		return nil
	}
	if err := runAll(ctx, conn, engine, statements); err != nil {
		return err
	}
	if err := revokeExtras(ctx, conn, engine); err != nil {
		return err
	}
	if err := transferOwnership(ctx, conn, engine); err != nil {
		return err
	}
	return setRole(ctx, conn)
}

// revokeExtras takes from the node's and the operator's role what would lead around
// the rights on tables: being somebody else, being above all rights, and making
// roles, databases and schemas.
func revokeExtras(ctx context.Context, conn *pgx.Conn, engine Engine) error {
	attributes := `NOCREATEDB NOCREATEROLE`
	if engine == PostgreSQL {
		attributes += ` NOSUPERUSER NOREPLICATION NOBYPASSRLS`
	}
	statements, err := queryStrings(ctx, conn, `
		SELECT 'REVOKE ' || quote_ident(pg_get_userbyid(m.roleid)) || ' FROM ' || r.rolname
		FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member WHERE r.rolname = ANY ($1::text[])
		UNION ALL
		SELECT 'ALTER ROLE ' || rolname || ' WITH `+attributes+`' FROM pg_roles
		WHERE rolname = ANY ($1::text[]) AND (rolcreatedb OR rolcreaterole OR rolsuper OR rolreplication OR rolbypassrls)
		UNION ALL
		SELECT 'REVOKE CREATE ON DATABASE ' || quote_ident(current_database()) || ' FROM ' || r
		FROM unnest($1::text[]) AS r WHERE has_database_privilege(r, current_database(), 'CREATE')`, limited)
	if err != nil {
		return fmt.Errorf("ask what the roles are: %w", err)
	}
	return runAll(ctx, conn, engine, statements)
}

// setRole lets an administrator's connection go on as the migrator, so
// that this owns what is made.
func setRole(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SET ROLE `+MigratorRole)
	if err != nil {
		return fmt.Errorf("go on as %s: %w", MigratorRole, err)
	}
	return nil
}

// transferOwnership makes the migrator the owner of everything, also of what somebody
// else has made, such as the administrator who restored a backup; and takes
// from everybody the right to make tables, which CockroachDB gives.
func transferOwnership(ctx context.Context, conn *pgx.Conn, engine Engine) error {
	statements, err := queryStrings(ctx, conn, `
		SELECT statement FROM (
			SELECT 1, 'ALTER DATABASE ' || quote_ident(datname) || ' OWNER TO ' || $1 FROM pg_database
			WHERE datname = current_database() AND pg_get_userbyid(datdba) <> $1
			UNION ALL
			SELECT 2, 'GRANT CREATE ON SCHEMA public TO ' || $1
			WHERE has_schema_privilege($2, 'public', 'CREATE') OR NOT has_schema_privilege($1, 'public', 'CREATE')
			UNION ALL
			SELECT 3, 'REVOKE CREATE ON SCHEMA public FROM PUBLIC' WHERE has_schema_privilege($2, 'public', 'CREATE')
			UNION ALL
			SELECT 4, 'ALTER TABLE ' || quote_ident(c.relname) || ' OWNER TO ' || $1
			FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
			WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND pg_get_userbyid(c.relowner) <> $1
		) AS todo (step, statement) ORDER BY step`, MigratorRole, NodeRole)
	if err != nil {
		return fmt.Errorf("ask who owns the tables: %w", err)
	}
	// CockroachDB's type goes with the database, PostgreSQL's sequences with
	// their tables.
	question := `SELECT 'ALTER SEQUENCE ' || quote_ident(c.relname) || ' OWNER TO ' || $1
		FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND c.relkind = 'S' AND pg_get_userbyid(c.relowner) <> $1`
	if engine == PostgreSQL {
		question = `SELECT 'ALTER TYPE ' || typname || ' OWNER TO ' || $1 FROM pg_type
			WHERE typname = 'crdb_internal_region' AND pg_get_userbyid(typowner) <> $1`
	}
	more, err := queryStrings(ctx, conn, question, MigratorRole)
	if err != nil {
		return fmt.Errorf("ask who owns the rest: %w", err)
	}
	statements = append(statements, more...)
	return runAll(ctx, conn, engine, statements)
}

// applyGrants gives the roles exactly the rights on tables that grants names.
func applyGrants(ctx context.Context, conn *pgx.Conn, engine Engine) error {
	statements, err := missingGrants(ctx, conn)
	if err == nil && engine == PostgreSQL {
		var more []string
		more, err = columnGrants(ctx, conn)
		statements = append(statements, more...)
	}
	if err != nil {
		return fmt.Errorf("ask for the roles' rights: %w", err)
	}
	return runAll(ctx, conn, engine, statements)
}

// missingGrants returns the statements after which the roles have exactly the
// rights of grants, and everybody none: what is more was given by hand, or by an
// older release.
func missingGrants(ctx context.Context, conn *pgx.Conn) (statements []string, err error) {
	have, err := queryStrings(ctx, conn, `
		SELECT lower(grantee) || ' ' || table_name || ' ' || privilege_type FROM information_schema.table_privileges
		WHERE table_schema = 'public' AND lower(grantee) = ANY ($1::text[])`, append([]string{"public"}, limited...))
	if err != nil {
		return nil, err
	}
	var wanted []string
	for _, g := range grants {
		all := true
		for table := range strings.SplitSeq(g.tables, ", ") {
			for privilege := range strings.SplitSeq(g.privileges, ", ") {
				wanted = append(wanted, g.role+" "+table+" "+privilege)
				all = all && slices.Contains(have, wanted[len(wanted)-1])
			}
		}
		if !all {
			statements = append(statements, "GRANT "+g.privileges+" ON TABLE "+g.tables+" TO "+g.role)
		}
	}
	for _, line := range have {
		if slices.Contains(wanted, line) {
			continue
		}
		role, rest, _ := strings.Cut(line, " ")
		cut := strings.LastIndex(rest, " ")
		statements = append(statements, "REVOKE "+rest[cut+1:]+" ON TABLE "+pgx.Identifier{rest[:cut]}.Sanitize()+" FROM "+role)
	}
	return statements, nil
}

// columnGrants is missingGrants for columns, of which PostgreSQL has rights of
// their own.
func columnGrants(ctx context.Context, conn *pgx.Conn) (statements []string, err error) {
	statements, err = queryStrings(ctx, conn, `
		SELECT 'REVOKE ' || x.privilege_type || ' (' || quote_ident(a.attname) || ') ON TABLE ' || quote_ident(c.relname) || ' FROM '
			|| CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee) END
		FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace, aclexplode(a.attacl) AS x
		WHERE n.nspname = 'public' AND (x.grantee = 0 OR pg_get_userbyid(x.grantee) = ANY ($1::text[]))
			AND NOT (pg_get_userbyid(x.grantee) = $2 AND c.relname = 'homes' AND a.attname = 'moving_from' AND x.privilege_type = 'UPDATE')`, limited, NodeRole)
	if err != nil {
		return nil, err
	}
	var may bool
	err = conn.QueryRow(ctx, `SELECT has_column_privilege($1, 'homes', 'moving_from', 'UPDATE')`, NodeRole).Scan(&may)
	if err == nil && !may {
		statements = append(statements, lockGrant)
	}
	return statements, err
}

// runAll runs the statements in one transaction: on CockroachDB each would else
// wait by itself until all its nodes know of the change.
func runAll(ctx context.Context, conn *pgx.Conn, engine Engine, statements []string) error {
	if len(statements) == 0 {
		return nil
	}
	if engine == CockroachDB {
		statements = append([]string{`SET LOCAL autocommit_before_ddl = off`}, statements...)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
}

func queryStrings(ctx context.Context, q querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
