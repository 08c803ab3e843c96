\set n :n + 1
\set low random(1, 50)
\set high random(51, 100)
\set amount random(1, 100)
BEGIN;
UPDATE accounts SET balance = balance - :amount WHERE id = :low;
UPDATE accounts SET balance = balance + :amount WHERE id = :high;
INSERT INTO tokens (run, client, n) VALUES (:run, :client_id, :n);
END;
