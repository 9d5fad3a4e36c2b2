-- Who may be greeted. The names are in NFC, told apart and sorted by their bytes.

-- +goose Up
CREATE TABLE people (
    username text COLLATE "C" PRIMARY KEY,
    date_of_birth date NOT NULL
);

-- +goose Down
DROP TABLE people;
