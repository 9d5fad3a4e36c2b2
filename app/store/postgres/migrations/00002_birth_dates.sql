-- A birth date is a day of the years 1 to 9999, also of a row that is put in by hand.
-- NOT VALID keeps rows that are there already, and does not read them while it locks
-- the table; `check` counts those that break it.

-- +goose Up
ALTER TABLE people ADD CONSTRAINT people_birth_date_is_a_day
    CHECK (date_of_birth BETWEEN '0001-01-01' AND '9999-12-31') NOT VALID;

-- +goose Down
ALTER TABLE people DROP CONSTRAINT people_birth_date_is_a_day;
