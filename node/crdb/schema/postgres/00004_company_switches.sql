-- The operator's switches of a company: a suspension and a limit. switched_at and switched_by belong to the last change
-- of either. The index finds the few companies with a switch among all others.

-- +goose Up
ALTER TABLE companies
    ADD COLUMN IF NOT EXISTS suspended         BOOL NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS suspended_until   TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS suspension_reason TEXT NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS rate_limit        INT8,
    ADD COLUMN IF NOT EXISTS switched_at       TIMESTAMPTZ,
    ADD COLUMN IF NOT EXISTS switched_by       TEXT NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS companies_switched ON companies (company_id) WHERE suspended OR rate_limit IS NOT NULL;

-- +goose Down
DROP INDEX IF EXISTS companies_switched;
ALTER TABLE companies
    DROP COLUMN IF EXISTS suspended,
    DROP COLUMN IF EXISTS suspended_until,
    DROP COLUMN IF EXISTS suspension_reason,
    DROP COLUMN IF EXISTS rate_limit,
    DROP COLUMN IF EXISTS switched_at,
    DROP COLUMN IF EXISTS switched_by;
