package crdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The accounts. They log in with certificates. On PostgreSQL accounts belong to the server, so databases share them.
const (
	NodeRole     = "punchclock_node"     // for nodes
	OperatorRole = "punchclock_operator" // for `punchclock company` and `punchclock audit`
	MigratorRole = "punchclock_migrator" // for `punchclock migrate`; owns the database and its tables
)

// grant is the right of a role to some tables.
type grant struct {
	role       string
	privileges string
	tables     string
}

// grants are all rights of the node's and the operator's role. Only the migrator can change or remove a punch.
var grants = []grant{
	{NodeRole, "SELECT, INSERT", "punches"},
	{NodeRole, "SELECT", "companies, homes, goose_db_version"},
	{NodeRole, "SELECT, INSERT, UPDATE", "controls"},

	{OperatorRole, "SELECT, INSERT", "companies, homes"},
	{OperatorRole, "SELECT", "punches, controls, goose_db_version"},
}

// limited are the roles that have exactly the rights in grants.
var limited = []string{NodeRole, OperatorRole}

// lockGrant lets nodes lock the fence on PostgreSQL. There FOR SHARE needs the right to update some column. A change of
// this column neither opens nor closes the fence. On CockroachDB the right would cover the whole row, so the statement
// has no lock there (see insertSQL).
const lockGrant = `GRANT UPDATE (moving_from) ON homes TO ` + NodeRole

// prepareRoles creates the accounts, gives the database to the migrator and continues as the migrator, if the caller is
// an administrator. For other callers all of this must be done already.
func prepareRoles(ctx context.Context, conn *pgx.Conn, engine Engine) error {
	var admin bool
	if err := conn.QueryRow(ctx, `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&admin); err != nil {
		return fmt.Errorf("read the rights of this account: %w", err)
	}
	var statements []string
	for _, role := range append([]string{MigratorRole}, limited...) {
		var there bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, role).Scan(&there); err != nil {
			return fmt.Errorf("look for role %s: %w", role, err)
		}
		if there {
			continue
		}
		if !admin {
			return fmt.Errorf("the role %s does not exist: run `punchclock migrate` once as an administrator of the database", role)
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

// revokeExtras revokes from the node's and the operator's role all that bypasses the rights on tables. These are
// memberships, attributes, and the right to create schemas.
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
		return fmt.Errorf("read the attributes of the roles: %w", err)
	}
	return runAll(ctx, conn, engine, statements)
}

// setRole continues as the migrator, so that the migrator owns all that is created.
func setRole(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SET ROLE `+MigratorRole)
	if err != nil {
		return fmt.Errorf("continue as %s: %w", MigratorRole, err)
	}
	return nil
}

// transferOwnership makes the migrator the owner of all tables. An administrator who restored a backup owns its tables.
// It also revokes the right of all accounts to create tables, which CockroachDB grants by default.
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
		return fmt.Errorf("read the owners of the tables: %w", err)
	}
	// CockroachDB's type belongs to the database, and PostgreSQL's sequences to their tables.
	question := `SELECT 'ALTER SEQUENCE ' || quote_ident(c.relname) || ' OWNER TO ' || $1
		FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND c.relkind = 'S' AND pg_get_userbyid(c.relowner) <> $1`
	if engine == PostgreSQL {
		question = `SELECT 'ALTER TYPE ' || typname || ' OWNER TO ' || $1 FROM pg_type
			WHERE typname = 'crdb_internal_region' AND pg_get_userbyid(typowner) <> $1`
	}
	more, err := queryStrings(ctx, conn, question, MigratorRole)
	if err != nil {
		return fmt.Errorf("read the owners of types and sequences: %w", err)
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
		return fmt.Errorf("read the rights of the roles: %w", err)
	}
	return runAll(ctx, conn, engine, statements)
}

// missingGrants returns the statements after which the roles have exactly the rights in grants. PUBLIC has none.
// Further rights came from an administrator or an older release.
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

// columnGrants does the same for the rights on columns, which only PostgreSQL has.
func columnGrants(ctx context.Context, conn *pgx.Conn) (statements []string, err error) {
	statements, err = queryStrings(ctx, conn, `
		SELECT 'REVOKE ' || x.privilege_type || ' (' || quote_ident(a.attname) || ') ON TABLE ' || quote_ident(c.relname) || ' FROM '
			|| CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee) END
		FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
			aclexplode(a.attacl) AS x
		WHERE n.nspname = 'public' AND (x.grantee = 0 OR pg_get_userbyid(x.grantee) = ANY ($1::text[]))
			AND NOT (pg_get_userbyid(x.grantee) = $2 AND c.relname = 'homes' AND a.attname = 'moving_from'
				AND x.privilege_type = 'UPDATE')`, limited, NodeRole)
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

// runAll runs the statements in one transaction. On CockroachDB each single statement would wait until all nodes know
// of its change.
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
